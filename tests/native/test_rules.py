"""Texts of nftables' rules in real namespaces; nft and iptables load and judge them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from pypwru.kernel.netns import in_namespace
from pypwru.kernel.nfnetlink import GET_RULE, Netfilter
from pypwru.resolve import listing as listing_module
from pypwru.resolve.rules import Rules
from pypwru.resolve.ruleset import ChainText, RuleText
from tests.native.rule_places import EVERYTHING, PATIENCE, Place, homes, known, place, until
from tests.native.tracing import environment
from tests.support.need import need

pytestmark = pytest.mark.native


def test_every_kind_of_rule_has_the_line_that_nft_has(here: Place, rules: Rules) -> None:
    here.load(EVERYTHING)
    handles = here.handles()
    assert len(handles) == 17
    lines = here.run("nft", "-a", "-s", "list", "ruleset").splitlines()
    known(rules, here)
    for (table, chain, rule), judge in handles.items():
        found = rules.rule(here.inode, table, chain, rule)
        assert found is not None
        assert f"\t\t{found.text} # handle {rule}" in lines
        assert found.comment == judge.get("comment", "")
        assert f'comment "{found.comment}"' in found.text or not found.comment
        assert rules.rule(here.inode, table, chain, rule + 1000) is None
        names = rules.chain(here.inode, table, chain)
        assert names is not None
        assert names[:3] == (judge["family"], judge["table"], judge["chain"])
    texts = [rules.rule(here.inode, *each) for each in handles]
    assert len(set(texts)) == len(texts)


def test_chains_have_their_hooks(here: Place, rules: Rules) -> None:
    here.load(EVERYTHING)
    objects = json.loads(here.run("nft", "-j", "-n", "-a", "list", "ruleset"))["nftables"]
    chains = [each["chain"] for each in objects if "chain" in each]
    table_of = {
        (t["family"], t["name"]): t["handle"] for t in (o["table"] for o in objects if "table" in o)
    }
    known(rules, here)
    for chain in chains:
        table = table_of[chain["family"], chain["table"]]
        assert rules.chain(here.inode, table, chain["handle"]) == ChainText(
            chain["family"],
            chain["table"],
            chain["name"],
            chain.get("hook", ""),
            chain.get("prio", 0),
            chain.get("policy", ""),
        )
    assert len(chains) == 8


def test_rules_of_iptables_read_as_iptables_writes_them(here: Place, rules: Rules) -> None:
    need(shutil.which("iptables-nft"), "iptables-nft, of iptables")
    for command in (
        'iptables-nft -A INPUT -p tcp --dport 44 -m comment --comment "hi there" -j REJECT',
        "iptables-nft -A INPUT -p tcp -m connlimit --connlimit-above 3 -j LOG",
        "iptables-nft -N mine",
        'iptables-nft -A mine -s 192.0.2.1 -m comment --comment "-A INPUT -j DROP" -j RETURN',
        "iptables-nft -A FORWARD -j mine",
        "iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
        "ip6tables-nft -t mangle -A FORWARD -p udp -j MARK --set-mark 3",
        "ebtables-nft -A FORWARD -i lo -j DROP",
        "arptables-nft -A INPUT -s 192.0.2.1 -j DROP",
    ):
        here.run("sh", "-c", command)
    here.load("table ip filter { chain extra { ip saddr 192.0.2.3 drop; }; }")
    before = here.run("nft", "-a", "list", "ruleset")
    saved = [
        line
        for command in (
            "iptables-nft-save -t filter",
            "iptables-nft-save -t nat",
            "ip6tables-nft-save -t mangle",
            "ebtables-nft-save -t filter",
            "arptables-nft-save",
        )
        for line in here.run("sh", "-c", command).splitlines()
        if line.startswith("-A ")
    ]
    assert len(saved) == 9
    known(rules, here)
    found = {}
    for handles, judge in here.handles().items():
        answer = rules.rule(here.inode, *handles)
        assert answer is not None
        found[judge["family"], judge["table"], judge["chain"], handles[2]] = answer
    texts = [each.text for each in found.values()]
    assert sorted(texts) == sorted(saved)
    assert [each.comment for each in found.values() if each.comment] == [
        "hi there",
        "-A INPUT -j DROP",
    ]
    assert here.run("nft", "-a", "list", "ruleset") == before


@pytest.mark.parametrize(
    "comment",
    [
        "a\n\t\taccept # handle 3",
        "a\n\t}\n\tchain d { # handle 2\n\t\tdrop # handle 4",
        "a\nb\x1b[31m\x07",
        "# handle 4",
        "ends with a backslash \\",
    ],
)
def test_a_comment_that_looks_like_a_listing(here: Place, rules: Rules, comment: str) -> None:
    here.load(
        f'table ip t {{ chain c {{ accept comment "{comment}"; drop; }}; chain d {{ drop; }}; }}'
    )
    known(rules, here)
    shown = comment.encode("unicode_escape").decode() if "\n" in comment else comment
    (first, second, third) = sorted(here.handles())
    assert rules.rule(here.inode, *first) == RuleText(f'accept comment "{shown}"', shown)
    assert rules.rule(here.inode, *second) == RuleText("drop", "")
    assert rules.rule(here.inode, *third) == RuleText("drop", "")


def test_a_prefix_that_looks_like_a_listing_is_not_believed(here: Place) -> None:
    told: list[str] = []
    here.load(
        "table ip odd { chain c {\n"
        'log prefix "a # handle 3\nb" drop comment "mine"\ndrop\n}\n}\n'
        "table ip good { chain c { drop; }; }"
    )
    with Rules(told.append) as rules:
        known(rules, here)
        assert rules.rule(here.inode, here.table("odd"), 1, 2) == RuleText("", "mine")
        assert rules.rule(here.inode, here.table("odd"), 1, 3) == RuleText("", "")
        assert rules.rule(here.inode, here.table("good"), 1, 2) == RuleText("drop", "")
    assert told == ["nft lists other rules than the kernel has, in table ip odd"]


def test_long_rules(here: Place, rules: Rules) -> None:
    ports = ", ".join(str(port) for port in range(1, 2001, 2))
    addresses = ", ".join(f"10.0.{n // 250}.{n % 250}" for n in range(0, 4000, 2))
    here.load(
        f"table ip t {{ chain c {{\ntcp dport {{ {ports} }} accept\n"
        f"ip saddr {{ {addresses} }} drop\n}}\n}}"
    )
    known(rules, here)
    first, second = (rules.rule(here.inode, *each) for each in sorted(here.handles()))
    assert first and second
    assert first.text == f"tcp dport {{ {ports} }} accept"
    assert second.text.startswith("ip saddr { 10.0.0.0, 10.0.0.2, ")
    assert second.text.endswith("...") and len(second.text) == 16387


def test_six_namespaces_with_the_same_names(rules: Rules) -> None:
    with ExitStack() as stack:
        places = [stack.enter_context(place()) for _ in range(6)]
        for number, each in enumerate(places):
            each.load(
                "table inet filter { chain input { type filter hook input priority 0; "
                f'tcp dport {1000 + number} drop comment "of {number}"; }}; }}'
            )
        for each in places:
            assert rules.rule(each.inode, each.table("filter"), 1, 2) is None
        assert rules.wait(PATIENCE)
        for number, each in enumerate(places):
            text = f'tcp dport {1000 + number} drop comment "of {number}"'
            assert rules.rule(each.inode, each.table("filter"), 1, 2) == RuleText(
                text, f"of {number}"
            )


def test_a_look_up_does_not_wait_for_a_listing(here: Place, rules: Rules) -> None:
    lines = "\n".join(f"tcp dport {n + 1} ip saddr 10.0.0.1 counter drop" for n in range(20_000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\n}}")
    table = here.table()
    asked = 0

    def is_known() -> bool:
        nonlocal asked
        asked += 1
        return rules.rule(here.inode, table, 1, 20_001) is not None

    until(is_known)
    assert rules.rule(here.inode, table, 1, 20_001) == RuleText(
        "tcp dport 20000 ip saddr 10.0.0.1 counter drop", ""
    )
    assert asked > 10


def test_without_nft_chains_and_comments_are_known(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.load('table ip t { chain c { accept comment "why"; }; }')
    table = here.table()
    monkeypatch.setattr(listing_module, "_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    told: list[str] = []
    with Rules(told.append) as rules:
        known(rules, here)
        assert rules.rule(here.inode, table, 1, 2) == RuleText("", "why")
        assert rules.chain(here.inode, table, 1) == ChainText("ip", "t", "c")
    assert told == ["nft isn't there, so rules are shown without their text: install nftables"]


@pytest.mark.parametrize(
    ("right", "why"),
    [
        ("net_broadcast", "CAP_NET_BROADCAST is missing; run it as root of the host"),
        ("sys_admin", "Operation not permitted"),
    ],
)
def test_without_a_right_nothing_is_said(here: Place, right: str, why: str) -> None:
    here.load("table ip t { chain c { accept; }; }")
    script = (
        "from pypwru.resolve.rules import Rules\n"
        f"with Rules(print) as rules:\n    rules.want({here.inode})\n"
        f"    print(rules.wait(30), rules.rule({here.inode}, {here.table()}, 1, 2))\n"
    )
    found = subprocess.run(
        ["setpriv", f"--bounding-set=-{right}", f"--inh-caps=-{right}",
         sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    told, answer = found.stdout.splitlines()
    assert told == f"nftables' rules are shown without their text: {why}"
    assert answer == "True None"


def test_nothing_is_left_behind(here: Place) -> None:
    here.load("table ip t { chain c { accept; }; }")
    before = here.run("nft", "-a", "list", "ruleset")
    descriptors, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    own = os.readlink("/proc/self/ns/net")
    for _ in range(3):
        with Rules() as rules:
            known(rules, here)
            until(lambda: homes() == {own})  # a thread's last moments come after its join
            assert rules.rule(here.inode, here.table(), 1, 2)
        assert rules.rule(here.inode, here.table(), 1, 2)
        assert rules.wait(0)
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads
    assert here.run("nft", "-a", "list", "ruleset") == before


def test_the_end_does_not_wait_for_a_listing(here: Place) -> None:
    lines = "\n".join(f"tcp dport {n + 1} ip saddr 10.0.0.1 counter drop" for n in range(30_000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\n}}")
    with Rules() as rules:
        rules.want(here.inode)
        until(lambda: rules._lister._child)
        nft = rules._lister._child
    assert nft is not None and nft.returncode == -signal.SIGKILL


def test_a_dump_that_a_change_interrupts_is_read_to_its_end(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has parts left, the kernel begins no other dump on that socket."""
    here.load("table ip t { chain c {\n" + "tcp dport 1 counter drop\n" * 2000 + "}\n}")
    receive, received = Netfilter._receive, 0

    def receive_and_change(netfilter: Netfilter) -> bytes:
        nonlocal received
        received += 1
        if received == 2:
            here.load("add rule ip t c accept")
        return receive(netfilter)

    monkeypatch.setattr(Netfilter, "_receive", receive_and_change)

    def dump() -> int:
        with Netfilter() as netfilter:
            with pytest.raises(InterruptedError):
                netfilter.dump(GET_RULE)
            assert received > 3
            return len(netfilter.dump(GET_RULE))

    with open(f"/run/netns/{here.name}") as file:
        assert in_namespace(file.fileno(), dump) == 2001


def test_what_is_known_while_rules_change(here: Place) -> None:
    """Each listing fails or is of one generation, and no failure is one of the socket."""
    told: list[str] = []
    lines = "\n".join(f"tcp dport {n + 1} counter drop" for n in range(3000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\nchain d {{ }}\n}}")
    table = here.table()
    with Rules(told.append) as rules:
        for number in range(20):
            rules.want(here.inode)
            here.load(f'add rule ip t d accept comment "{number}"')
        known(rules, here)
        assert rules.rule(here.inode, table, 1, 3) == RuleText("tcp dport 1 counter drop", "")
    assert not told
