"""Texts of all rules of the lab's corpus (tests/lab/truth/corpus): what nft and iptables list.

What this machine's kernel can't load, as flowtables where it has none, is left to the lab.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypwru.kernel.netlink import parse_attributes
from pypwru.nft.rule_service import RuleService
from pypwru.nft.ruleset import elide_sets
from tests.lab.truth import rulefiles
from tests.native.rule_places import PATIENCE, Place, until
from tests.support.need import need

pytestmark = pytest.mark.native
_CANT = ("Protocol error", "Operation not supported", "No such file", "Extension", "RULE_APPEND")


@contextmanager
def loaded(file: Path, where: Place) -> Iterator[str]:
    """The rules in a namespace with two devices; why not, if this kernel can't have them."""
    where.run(*["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])
    if not rulefiles.is_owned(file):
        try:
            rulefiles.load(runner(where), file)
        except AssertionError as error:
            if not any(each in str(error) for each in _CANT):
                raise
            yield str(error)
        else:
            yield ""
        return
    words = ["ip", "netns", "exec", where.name, "nft", "-i"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as owner:
        assert owner.stdin
        owner.stdin.write(f'include "{file}"\n')
        owner.stdin.flush()
        until(lambda: "progname" in where.run("nft", "-a", "list", "ruleset"))
        yield ""
        owner.stdin.close()


def runner(where: Place) -> rulefiles.Run:
    return lambda command, words: where.run(*command.split(), given=words)


def handles(where: Place) -> Iterator[tuple[int, int, int]]:
    """Table, chain and rule of each rule, of those in chains without a name, too."""
    tables, chains, rules = (
        [(each.family, dict(parse_attributes(each.body))) for each in dump]
        for dump in where.dumps()
    )
    table_of = {(family, found[1]): found[4] for family, found in tables}
    chain_of = {(family, found[1], found[3]): found[2] for family, found in chains}
    for family, found in rules:
        chain = chain_of[family, found[1], found[2]]
        every = table_of[family, found[1]], chain, found[3]
        table, own, rule = (int.from_bytes(each, "big") for each in every)
        yield table, own, rule


@pytest.mark.parametrize("file", rulefiles.files(), ids=lambda file: file.name)
def test_all_rules_have_the_texts_that_nft_and_iptables_list(here: Place, file: Path) -> None:
    need(shutil.which("iptables-nft-save"), "iptables-nft-save, of iptables")
    told: list[str] = []
    with loaded(file, here) as refused:
        if refused:
            return  # the lab's kernels have it
        texts, bound = rulefiles.known_texts(runner(here), file)
        with RuleService(told.append, netns=here.inode) as rules:
            assert rules.wait_listed(PATIENCE)
            found, chains = {}, set()
            for table, chain, handle in handles(here):
                rule = rules.rule(here.inode, table, chain, handle)
                name = rules.chain(here.inode, table, chain)
                assert rule and name
                found[name.family, name.table, handle] = elide_sets(rule.text)
                chains.add((name.family, name.table, name.chain))
    assert not told
    assert found == texts
    assert {(*block[:2], name) for block, name in bound.names.items()} <= chains
