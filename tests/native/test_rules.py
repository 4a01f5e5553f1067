"""Texts of nftables' rules in real namespaces; nft and iptables load and list them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.kernel.netlink import GET_RULE, NetfilterSocket, parse_attributes
from pypwru.kernel.netns import run_in_namespace
from pypwru.nft import list_ruleset as listing_module
from pypwru.nft import rule_service as rules_module
from pypwru.nft.namespace_state import NamespaceState
from pypwru.nft.rule_service import RuleService
from pypwru.nft.ruleset import ChainText, RuleText, elide_sets
from tests.native.rule_namespaces import (
    EVERYTHING,
    HARD,
    HARD_TEXTS,
    TIMEOUT,
    RuleNamespace,
    list_rules,
    rule_namespace,
    thread_namespaces,
    until,
)
from tests.native.tracing import environment
from tests.support.need import need

pytestmark = pytest.mark.native


def test_rule_texts_are_those_of_nft(here: RuleNamespace, rules: RuleService) -> None:
    here.load(EVERYTHING)
    handles = here.handles()
    assert len(handles) == 17
    lines = here.run("nft", "-a", "-s", "list", "ruleset").splitlines()
    list_rules(rules, here)
    for (table, chain, rule), expected in handles.items():
        found = rules.rule(here.inode, table, chain, rule)
        assert found is not None
        assert f"\t\t{found.text} # handle {rule}" in lines
        assert found.comment == expected.get("comment", "")
        assert f'comment "{found.comment}"' in found.text or not found.comment
        assert rules.rule(here.inode, table, chain, rule + 1000) is None
        names = rules.chain(here.inode, table, chain)
        assert names is not None
        assert names[:3] == (expected["family"], expected["table"], expected["chain"])
    texts = [rules.rule(here.inode, *each) for each in handles]
    assert len(set(texts)) == len(texts)


def test_chains_have_hooks_of_nft(here: RuleNamespace, rules: RuleService) -> None:
    here.load(EVERYTHING)
    objects = json.loads(here.run("nft", "-j", "-n", "-a", "list", "ruleset"))["nftables"]
    chains = [each["chain"] for each in objects if "chain" in each]
    table_of = {
        (t["family"], t["name"]): t["handle"] for t in (o["table"] for o in objects if "table" in o)
    }
    list_rules(rules, here)
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


def test_iptables_rules_have_iptables_syntax(here: RuleNamespace, rules: RuleService) -> None:
    need(shutil.which("iptables-nft"), "iptables-nft, of iptables")
    for command in (
        'iptables-nft -A INPUT -p tcp --dport 44 -m comment --comment "hi there" -j REJECT',
        "iptables-nft -A INPUT -p tcp -m connlimit --connlimit-above 3 -j LOG",
        "iptables-nft -N mine",
        'iptables-nft -A mine -s 192.0.2.1 -m comment --comment "-A INPUT -j DROP" -j RETURN',
        "iptables-nft -A mine -m comment --comment 'two\nlines \"so\" \\' -j DROP",
        "iptables-nft -A FORWARD -j mine",
        "iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
        "ip6tables-nft -t mangle -A FORWARD -p udp -j MARK --set-mark 3",
        "ebtables-nft -A FORWARD -i lo -j DROP",
        "arptables-nft -A INPUT -s 192.0.2.1 -j DROP",
    ):
        here.run("sh", "-c", command)
    here.load("table ip filter { chain extra { ip saddr 192.0.2.3 drop; }; }")
    before = here.run("nft", "-a", "list", "ruleset")
    saved = "".join(
        here.run("sh", "-c", command)
        for command in (
            "iptables-nft-save -t filter",
            "iptables-nft-save -t nat",
            "ip6tables-nft-save -t mangle",
        )
    )
    listed = here.run("nft", "-a", "-s", "list", "ruleset")
    messages: list[str] = []
    with RuleService(messages.append) as rules:
        list_rules(rules, here)
        found = []
        for handles in here.handles():
            answer = rules.rule(here.inode, *handles)
            assert answer is not None
            found.append(answer)
            if answer.text.startswith("-A "):
                assert f"{answer.text}\n" in saved.replace("two\nlines", "two\\nlines")
            else:
                assert f"\t\t{answer.text} # handle {handles[2]}\n" in listed
    texts = [each.text for each in found]
    assert sum(text.startswith("-A ") for text in texts) == 6
    assert len(set(texts)) == len(texts) == 10
    assert [each.comment for each in found if each.comment] == [
        "hi there",
        "-A INPUT -j DROP",
        'two\\nlines "so" \\',
    ]
    assert not messages
    assert here.run("nft", "-a", "list", "ruleset") == before


@pytest.mark.parametrize("family", ["ip", "ip6", "arp", "bridge"])
def test_nft_rules_in_iptables_table_have_nft_syntax(here: RuleNamespace, family: str) -> None:
    need(shutil.which("iptables-nft"), "iptables-nft, of iptables")
    texts = {
        "ip": [
            "udp dport { 7014, 7015 } drop",
            "ip saddr @blocked counter drop",
            "udp dport vmap { 1 : accept, 2 : drop }",
        ],
        "ip6": ["udp dport { 7014, 7015 } drop", "ip6 hoplimit < 5 drop"],
        "arp": ["arp operation { request, reply } drop", "arp htype 1 drop"],
        "bridge": ["ether type { ip, ip6 } drop", "vlan id 4 drop"],
    }[family]
    rules_text = "\n".join(texts)
    here.load(
        f"table {family} filter {{\nset blocked {{ type ipv4_addr; }}\nchain INPUT {{\n"
        f"type filter hook input priority 0;\n{rules_text}\n}}\n}}"
    )
    messages: list[str] = []
    with RuleService(messages.append) as rules:
        list_rules(rules, here)
        found = [rules.rule(here.inode, *each) for each in here.handles()]
    assert found == [RuleText(text, "") for text in texts]
    assert not messages


def test_multiline_strings_and_anonymous_chains(here: RuleNamespace, rules: RuleService) -> None:
    here.load(HARD)
    list_rules(rules, here)
    found: dict[str, list[str]] = {}
    _, chains, all_rules = (
        [dict(parse_attributes(each.body)) for each in dump] for dump in here.dumps()
    )
    chain_of = {each[3]: int.from_bytes(each[2], "big") for each in chains}
    for each in all_rules:
        handles = here.table("filter"), chain_of[each[2]], int.from_bytes(each[3], "big")
        chain, rule = rules.chain(here.inode, *handles[:2]), rules.rule(here.inode, *handles)
        assert chain and rule
        found.setdefault(chain.chain, []).append(rule.text)
    assert found == HARD_TEXTS
    # The text of a rule with rules of its own is, to nft, the same rule.
    block = found["input"][0].replace("in\\nner", "in\nner")
    here.load(f"table inet copy {{ chain input {{ {block}\n }}; }}")
    listed, copied = (here.run("nft", "list", "table", "inet", name) for name in ("filter", "copy"))
    begins = "\t\ttcp dport { 22, 80 } jump {"
    assert begins in copied
    assert copied.partition(begins)[2].partition("\n\t\t}")[0] in listed


def test_table_with_owner_is_parsed(here: RuleNamespace, rules: RuleService) -> None:
    """As firewalld's: its first line goes on behind the handle."""
    with subprocess.Popen(
        ["ip", "netns", "exec", here.name, "nft", "-i"], stdin=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin
        owner.stdin.write(
            "add table inet t { flags owner; }\nadd chain inet t c\nadd rule inet t c drop\n"
        )
        owner.stdin.flush()
        until(lambda: "drop" in here.run("nft", "list", "ruleset"))
        assert " progname " in here.run("nft", "-a", "list", "ruleset").partition("\n")[0]
        list_rules(rules, here)
        assert rules.rule(here.inode, here.table(), 1, 2) == RuleText("drop", "")
        owner.stdin.close()


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
def test_comment_like_listing_is_escaped(
    here: RuleNamespace, rules: RuleService, comment: str
) -> None:
    here.load(
        f'table ip t {{ chain c {{ accept comment "{comment}"; drop; }}; chain d {{ drop; }}; }}'
    )
    list_rules(rules, here)
    shown = json.dumps(comment)[1:-1] if "\n" in comment else comment
    (first, second, third) = sorted(here.handles())
    assert rules.rule(here.inode, *first) == RuleText(f'accept comment "{shown}"', shown)
    assert rules.rule(here.inode, *second) == RuleText("drop", "")
    assert rules.rule(here.inode, *third) == RuleText("drop", "")


@pytest.mark.parametrize(
    "string",
    [
        "a # handle 3\nb",
        "a\n\t}\n\n\tchain c { # handle 1\n\t\tdrop # handle 3\n\t}\n",
        "\n}\ntable ip odd { # handle 1\n",
    ],
)
def test_string_like_listing_is_escaped(here: RuleNamespace, string: str) -> None:
    messages: list[str] = []
    here.load(
        f'table ip odd {{\nset s {{ type ipv4_addr; comment "{string}"; }}\nchain c {{\n'
        f'log prefix "{string}" drop comment "mine"\ndrop\n}}\n}}\n'
        "table ip good { chain c { drop; }; }"
    )
    shown = string.encode("unicode_escape").decode()
    with RuleService(messages.append) as rules:
        list_rules(rules, here)
        first, second, good = (rules.rule(here.inode, *each) for each in here.handles())
    assert first == RuleText(f'log prefix "{shown}" drop comment "mine"', "mine")
    assert second == good == RuleText("drop", "")
    assert not messages


def test_sets_of_long_rules_are_elided(here: RuleNamespace, rules: RuleService) -> None:
    ports = ", ".join(str(port) for port in range(1, 2001, 2))
    addresses = ", ".join(f"10.0.{n // 250}.{n % 250}" for n in range(0, 6000, 2))
    here.load(
        f"table ip t {{ chain c {{\ntcp dport {{ {ports} }} accept\n"
        f'ip saddr {{ {addresses} }} drop comment "why"\n}}\n}}'
    )
    list_rules(rules, here)
    first, second = (rules.rule(here.inode, *each) for each in sorted(here.handles()))
    assert first and second
    assert first.text == f"tcp dport {{ {ports} }} accept"
    assert elide_sets(first.text) == "tcp dport { 1000 elements } accept"
    assert second.text == 'ip saddr { 3000 elements } drop comment "why"'


def test_missing_rule_is_listed_once(here: RuleNamespace, rules: RuleService) -> None:
    here.load("table ip t { chain c { drop; }; }")
    list_rules(rules, here)
    at = time.monotonic_ns()
    assert rules.rule(here.inode, here.table(), 1, 99, at) is None
    assert rules.is_listing_pending(here.inode, at)
    until(lambda: not rules.is_listing_pending(here.inode, at))
    assert rules.rule(here.inode, here.table(), 1, 99, at) is None
    assert not rules.is_listing_pending(here.inode, at)


def test_namespaces_with_equal_names_have_own_texts(rules: RuleService) -> None:
    with ExitStack() as stack:
        namespaces = [stack.enter_context(rule_namespace()) for _ in range(6)]
        for number, each in enumerate(namespaces):
            each.load(
                "table inet filter { chain input { type filter hook input priority 0; "
                f'tcp dport {1000 + number} drop comment "of {number}"; }}; }}'
            )
        for each in namespaces:
            assert rules.rule(each.inode, each.table("filter"), 1, 2) is None
        assert rules.relist(TIMEOUT)
        for number, each in enumerate(namespaces):
            text = f'tcp dport {1000 + number} drop comment "of {number}"'
            assert rules.rule(each.inode, each.table("filter"), 1, 2) == RuleText(
                text, f"of {number}"
            )


@pytest.mark.parametrize("only", [False, True])
def test_first_lookup_finds_existing_rules(here: RuleNamespace, only: bool) -> None:
    """The one packet of a manual test has the text of its rule."""
    with rule_namespace() as there:
        for where in (here, there):
            where.load("table ip t { chain c { drop; }; }")
        with RuleService(netns=here.inode if only else 0) as rules:
            assert rules.wait_listed(TIMEOUT)
            found = [rules.rule(each.inode, each.table(), 1, 2) for each in (here, there)]
            assert found == [RuleText("drop", ""), None if only else RuleText("drop", "")]


def test_first_lookup_finds_each_of_20_000_rules(here: RuleNamespace) -> None:
    """Each is found by the first lookup, once the listing of the start is complete."""
    lines = "\n".join(f"tcp dport {n + 1} counter drop" for n in range(20_000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\n}}")
    table = here.table()
    with RuleService(netns=here.inode) as rules:
        assert rules.wait_listed(TIMEOUT)
        for n in (0, 9_999, 19_999):
            found = rules.rule(here.inode, table, 1, n + 2)
            assert found == RuleText(f"tcp dport {n + 1} counter drop", "")


def test_lookup_does_not_wait_for_listing(here: RuleNamespace, rules: RuleService) -> None:
    lines = "\n".join(f"tcp dport {n + 1} ip saddr 10.0.0.1 counter drop" for n in range(20_000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\n}}")
    table = here.table()
    lookups = 0

    def is_known() -> bool:
        nonlocal lookups
        lookups += 1
        return rules.rule(here.inode, table, 1, 20_001) is not None

    until(is_known)
    assert rules.rule(here.inode, table, 1, 20_001) == RuleText(
        "tcp dport 20000 ip saddr 10.0.0.1 counter drop", ""
    )
    assert lookups > 10


def test_chains_and_comments_need_no_nft(
    here: RuleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.load('table ip t { chain c { accept comment "why"; }; }')
    table = here.table()
    monkeypatch.setattr(listing_module, "_SBIN_DIRS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    messages: list[str] = []
    with RuleService(messages.append) as rules:
        list_rules(rules, here)
        assert rules.rule(here.inode, table, 1, 2) == RuleText("", "why")
        assert rules.chain(here.inode, table, 1) == ChainText("ip", "t", "c")
    assert messages == ["nft isn't there, so rules are shown without their text: install nftables"]


@pytest.mark.parametrize(
    ("fails", "messages"),
    [
        ("false", []),
        ('[ "$6.$7" = ip.t ]', ["nft -a -s -t list table ip t failed"]),
    ],
)
def test_listing_falls_back_to_single_tables(
    here: RuleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    messages: list[str],
) -> None:
    """An nft that fails, as it may at a large ruleset or at expressions that are too new for it."""
    here.load("table ip t { chain c { drop; }; }\ntable ip6 t { chain c { accept; }; }")
    nft = tmp_path / "nft"
    nft.write_text(
        "#!/bin/sh\n"  # the rules of the machine's other namespaces are listed, too
        f'if [ "$(stat -Lc %i /proc/self/ns/net)" = {here.inode} ] &&\n'
        f'    {{ [ "$5" = ruleset ] || {fails}; }}\n'
        "then echo no >&2; exit 1; fi\n"
        f'exec {shutil.which("nft")} "$@"\n'
    )
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    logged: list[str] = []
    with RuleService(logged.append, netns=here.inode) as rules:
        list_rules(rules, here)
        texts = [rules.rule(here.inode, *each) for each in here.handles()]
    assert texts == [RuleText("" if messages else "drop", ""), RuleText("accept", "")]
    assert logged == [f"{each}, so rules are shown without their text: no" for each in messages]


def test_failed_iptables_save_leaves_nft_syntax(
    here: RuleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(shutil.which("iptables-nft"), "iptables-nft, of iptables")
    here.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "-j", "LOG")
    save = tmp_path / "iptables-nft-save"
    save.write_text("#!/bin/sh\necho no >&2; exit 1\n")
    save.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    logged: list[str] = []
    with RuleService(logged.append) as rules:
        list_rules(rules, here)
        (handles,) = here.handles()
        found = rules.rule(here.inode, *handles)
    assert found
    assert f"\t\t{found.text} # handle {handles[2]}\n" in here.run(
        "nft", "-a", "-s", "list", "ruleset"
    )
    assert logged == [
        "iptables-nft-save -t filter failed, so rules with matches or targets of iptables are "
        "shown as nft lists them: no"
    ]


@pytest.mark.parametrize(
    ("right", "why"),
    [
        ("net_broadcast", "CAP_NET_BROADCAST is missing; run it as root of the host"),
        ("sys_admin", "Operation not permitted"),
    ],
)
def test_missing_capability_is_logged(here: RuleNamespace, right: str, why: str) -> None:
    here.load("table ip t { chain c { accept; }; }")
    script = (
        "from pypwru.nft.rule_service import RuleService\n"
        f"with RuleService(print) as rules:\n    rules.request({here.inode})\n"
        f"    print(rules.relist(30), rules.rule({here.inode}, {here.table()}, 1, 2))\n"
    )
    found = subprocess.run(
        ["setpriv", f"--bounding-set=-{right}", f"--inh-caps=-{right}",
         sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    messages, answer = found.stdout.splitlines()
    assert messages == f"nftables' rules are shown without their text: {why}"
    assert answer == "True None"


def test_no_socket_before_nf_tables_is_loaded(
    here: RuleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket or a request to nf_tables would load it."""
    lookups: list[bool] = []
    made = NetfilterSocket.__init__

    def make(netfilter: NetfilterSocket) -> None:
        lookups.append(there)
        made(netfilter)

    monkeypatch.setattr(NetfilterSocket, "__init__", make)
    monkeypatch.setattr(rules_module, "_LOAD_POLL_INTERVAL", 0.01)
    there, looks = False, 0

    def is_there() -> bool:
        nonlocal looks
        looks += 1
        return there

    here.load("table ip t { chain c { drop; }; }")
    handles = next(iter(here.handles()))
    with RuleService(has_nf_tables=is_there) as rules:
        until(lambda: looks > 3)
        assert rules.rule(here.inode, *handles) is None
        assert not lookups
        there = True
        until(lambda: rules.rule(here.inode, *handles))
        assert rules.rule(here.inode, *handles) == RuleText("drop", "")
    assert all(lookups)
    there, before = False, len(lookups)
    with RuleService(has_nf_tables=is_there) as rules:
        rules.request(here.inode)
        assert not rules.relist(0.01)
    assert len(lookups) == before


def test_service_leaves_no_descriptors_or_threads(here: RuleNamespace) -> None:
    here.load("table ip t { chain c { accept; }; }")
    before = here.run("nft", "-a", "list", "ruleset")
    descriptors, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    own = os.readlink("/proc/self/ns/net")
    for _ in range(3):
        with RuleService() as rules:
            list_rules(rules, here)
            until(
                lambda: thread_namespaces() == {own}
            )  # a thread's last moments come after its join
            assert rules.rule(here.inode, here.table(), 1, 2)
        assert rules.rule(here.inode, here.table(), 1, 2)
        assert rules.relist(0)
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads
    assert here.run("nft", "-a", "list", "ruleset") == before


def test_close_kills_listing(here: RuleNamespace) -> None:
    lines = "\n".join(f"tcp dport {n + 1} ip saddr 10.0.0.1 counter drop" for n in range(30_000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\n}}")
    with RuleService() as rules:
        rules.request(here.inode)
        until(lambda: rules._lister._child)
        nft = rules._lister._child
    assert nft is not None and nft.returncode == -signal.SIGKILL


def test_interrupted_dump_is_read_to_its_end(
    here: RuleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has parts left, the kernel begins no other dump on that socket."""
    here.load("table ip t { chain c {\n" + "tcp dport 1 counter drop\n" * 2000 + "}\n}")
    receive, received = NetfilterSocket._receive, 0

    def receive_and_change(netfilter: NetfilterSocket) -> bytes:
        nonlocal received
        received += 1
        if received == 2:
            here.load("add rule ip t c accept")
        return receive(netfilter)

    monkeypatch.setattr(NetfilterSocket, "_receive", receive_and_change)

    def dump() -> int:
        with NetfilterSocket() as netfilter:
            with pytest.raises(InterruptedError):
                netfilter.dump(GET_RULE)
            assert received > 3
            return len(netfilter.dump(GET_RULE))

    with open(f"/run/netns/{here.name}") as file:
        assert run_in_namespace(file.fileno(), dump) == 2001


def test_lookup_while_rules_change(here: RuleNamespace) -> None:
    """Each listing fails or is of one generation, and no failure is one of the socket."""
    messages: list[str] = []
    lines = "\n".join(f"tcp dport {n + 1} counter drop" for n in range(3000))
    here.load(f"table ip t {{ chain c {{\n{lines}\n}}\nchain d {{ }}\n}}")
    table = here.table()
    with RuleService(messages.append) as rules:
        for number in range(20):
            rules.request(here.inode)
            here.load(f'add rule ip t d accept comment "{number}"')
        list_rules(rules, here)
        assert rules.rule(here.inode, table, 1, 3) == RuleText("tcp dport 1 counter drop", "")
    assert not messages


@pytest.fixture
def load_after(here: RuleNamespace, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Map a listing program to rules that nft loads once, after the program has run."""
    loads: dict[str, str] = {}
    run = listing_module.RulesetLister._run

    def run_and_load(lister: listing_module.RulesetLister, *words: str, **more: str) -> str:
        done = run(lister, *words, **more)
        if load := loads.pop(words[0], None):
            here.load(load)
        return done

    monkeypatch.setattr(listing_module.RulesetLister, "_run", run_and_load)
    return loads


def limit_listings(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Stop after so many listings: no later one can correct the first."""
    read = rules_module.RuleService._list_namespace

    def read_some(rules: RuleService, inode: int, namespace: NamespaceState) -> float:
        nonlocal count
        count -= 1
        return read(rules, inode, namespace) if count >= 0 else float("inf")

    monkeypatch.setattr(rules_module.RuleService, "_list_namespace", read_some)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ("add element ip u s { 192.0.2.1 }", ["drop", "accept"]),
        ("add rule ip u d accept", ["drop", "accept"]),
        ("insert rule ip t c counter", ["drop", "accept"]),
        ("replace rule ip t c handle HANDLE counter", [None, "accept"]),
    ],
)
def test_listing_keeps_rules_a_change_left_alone(
    here: RuleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    load_after: dict[str, str],
    change: str,
    texts: list[str | None],
) -> None:
    here.load(
        "table ip t { chain c { drop; accept; }; }\n"
        "table ip u { set s { type ipv4_addr; }\nchain d { }\n}"
    )
    handles = list(here.handles())
    load_after["nft"] = change.replace("HANDLE", str(handles[0][2]))
    limit_listings(monkeypatch, 1)
    with RuleService(netns=here.inode) as rules:
        assert rules.wait_listed(TIMEOUT)
        found = [rules.rule(here.inode, *each) for each in handles]
        assert not load_after
        assert [each and each.text for each in found] == texts
        whole = rules._namespaces[here.inode].history.valid_until > 0
        assert whole == ("element" in change)


@pytest.mark.parametrize("change", ["element ip u s { 192.0.2.1 }", "rule ip filter INPUT drop"])
def test_iptables_rules_are_not_matched_during_change(
    here: RuleNamespace, monkeypatch: pytest.MonkeyPatch, load_after: dict[str, str], change: str
) -> None:
    need(shutil.which("iptables-nft"), "iptables-nft, of iptables")
    here.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "-j", "LOG")
    here.load("table ip u { set s { type ipv4_addr; }\n}")
    (handles,) = here.handles()
    load_after["iptables-nft-save"] = f"add {change}"
    limit_listings(monkeypatch, 1)
    with RuleService(netns=here.inode) as rules:
        assert rules.wait_listed(TIMEOUT)
        found = rules.rule(here.inode, *handles)
        assert not load_after
        assert found == RuleText("-A INPUT -p tcp -j LOG" if "element" in change else "", "")
