"""Texts of all rules of the lab's corpus (tests/lab/truth/corpus): what nft and iptables list.

Rulesets that this machine's kernel can't load, as flowtables where it has none, are left to the
lab.
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
from tests.native.rule_namespaces import TIMEOUT, RuleNamespace, until
from tests.support.need import need

pytestmark = pytest.mark.native
_UNSUPPORTED = (
    "Protocol error",
    "Operation not supported",
    "No such file",
    "Extension",
    "RULE_APPEND",
)


@contextmanager
def load_rules(file: Path, namespace: RuleNamespace) -> Iterator[str]:
    """Load the rules in a namespace with two devices; yield why not, if this kernel can't."""
    namespace.run(*["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])
    if not rulefiles.is_owned(file):
        try:
            rulefiles.load(runner(namespace), file)
        except AssertionError as error:
            if not any(each in str(error) for each in _UNSUPPORTED):
                raise
            yield str(error)
        else:
            yield ""
        return
    words = ["ip", "netns", "exec", namespace.name, "nft", "-i"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as owner:
        assert owner.stdin
        owner.stdin.write(f'include "{file}"\n')
        owner.stdin.flush()
        until(lambda: "progname" in namespace.run("nft", "-a", "list", "ruleset"))
        yield ""
        owner.stdin.close()


def runner(namespace: RuleNamespace) -> rulefiles.Run:
    return lambda command, words: namespace.run(*command.split(), stdin=words)


def handles(namespace: RuleNamespace) -> Iterator[tuple[int, int, int]]:
    """Yield table, chain and rule of each rule, also of those in chains without a name."""
    tables, chains, rules = (
        [(each.family, dict(parse_attributes(each.body))) for each in dump]
        for dump in namespace.dumps()
    )
    table_of = {(family, found[1]): found[4] for family, found in tables}
    chain_of = {(family, found[1], found[3]): found[2] for family, found in chains}
    for family, found in rules:
        chain = chain_of[family, found[1], found[2]]
        every = table_of[family, found[1]], chain, found[3]
        table, own, rule = (int.from_bytes(each, "big") for each in every)
        yield table, own, rule


@pytest.mark.parametrize("file", rulefiles.files(), ids=lambda file: file.name)
def test_rule_texts_are_those_of_nft_and_iptables(here: RuleNamespace, file: Path) -> None:
    need(shutil.which("iptables-nft-save"), "iptables-nft-save, of iptables")
    messages: list[str] = []
    with load_rules(file, here) as refused:
        if refused:
            return  # the lab's kernels have it
        texts, bound = rulefiles.known_texts(runner(here), file)
        with RuleService(messages.append, netns=here.inode) as rules:
            assert rules.wait_listed(TIMEOUT)
            found, chains = {}, set()
            for table, chain, handle in handles(here):
                rule = rules.rule(here.inode, table, chain, handle)
                name = rules.chain(here.inode, table, chain)
                assert rule and name
                found[name.family, name.table, handle] = elide_sets(rule.text)
                chains.add((name.family, name.table, name.chain))
    assert not messages
    assert found == texts
    assert {(*block[:2], name) for block, name in bound.names.items()} <= chains
