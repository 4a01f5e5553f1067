"""Records of rules in real namespaces, through all stages to lines: nft loads and judges them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pypwru.kernel.netlink import NetfilterSocket
from pypwru.kernel.netns_opener import NetnsOpener
from pypwru.nft import text_delay
from pypwru.nft.monitor import Changes, RulesetMonitor
from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.rule_service import RuleService
from pypwru.nft.service import NftSource
from pypwru.output.columns import columns
from pypwru.output.pipeline import Pipeline
from pypwru.output.printer import Printer
from pypwru.output.text import TextFormatter
from pypwru.wire.record import Record
from tests.native.rule_places import EVERYTHING, PATIENCE, Place, known, place, until
from tests.support import records
from tests.support.records import NFT_RULE, configured, event, flow, packet, tail

pytestmark = pytest.mark.native

Handles = tuple[int, int, int]
OFF = "--output-meta=0 --output-tuple=0 --output-nft=text"
GONE = " (text unknown)"


class Shown:
    """A run's stages, and the lines that came out."""

    def __init__(self, rules: RuleService, flags: str = "") -> None:
        self.config = configured(f"{OFF} {flags}")
        self.lines: list[str] = []
        nft = NftSource(records.chain_names, RuleTexts(rules))
        self.printer = Printer(
            TextFormatter(columns(self.config)),
            records.names()._replace(rule=nft.rule),
            lambda events: self.lines.extend(b"".join(events).decode().splitlines()),
            self.config,
        )
        drops = records.names().is_drop
        self.stages = Pipeline(self.config, records.FUNCTIONS, nft, drops)

    def take(self, *batch: Record) -> None:
        """Records come."""
        for shown in self.stages.take(batch):
            self.printer.show(shown)

    def finish(self) -> None:
        """No more come."""
        for shown in self.stages.finish():
            self.printer.show(shown)

    def record(self, where: Place, rule: Handles, skb: int = 1, kind: int = NFT_RULE) -> Record:
        """What is said of a rule that speaks now."""
        now = time.monotonic_ns()
        table, chain, handle = rule
        part = records.nft(handle, table=table, chain=chain, netns=where.inode)
        behind = tail(self.config, nft=part, nft_time=records.nft_time(now))
        place = 14 if kind == NFT_RULE else 3
        return event(packet(skb, 0, 7, kind), place, flow(), now, tail=behind)

    def until(self, count: int) -> list[str]:
        """What nftables said in the lines, once there are so many."""

        def fact() -> bool:
            self.take()
            return len(self.lines) >= count

        until(fact)
        return [line.rpartition("  ")[2] for line in self.lines]


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def rules(here: Place) -> Iterator[RuleService]:
    with RuleService() as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, a text comes in time."""
    for name in ("_TIMEOUT", "_TIMEOUT_WHILE_LISTING"):
        monkeypatch.setattr(text_delay, name, int(PATIENCE * 1e9))


def said(handle: int, text: str) -> str:
    return f"handle {handle} drop: {text}"


@pytest.mark.usefixtures("patient")
def test_the_text_of_each_rule_comes_late_and_right(here: Place, rules: RuleService) -> None:
    here.load(EVERYTHING)
    handles = here.handles()
    listed = here.run("nft", "-a", "-s", "list", "ruleset").splitlines()
    shown = Shown(rules)
    shown.take(*(shown.record(here, each) for each in handles))
    assert shown.lines == [], "it isn't waited for here"
    found = shown.until(len(handles))
    for line, (_, _, rule) in zip(found, handles, strict=True):
        text = line.removeprefix(f"handle {rule} drop: ")
        assert f"\t\t{text} # handle {rule}" in listed


def test_a_rule_that_nobody_could_read_is_gone(here: Place) -> None:
    here.load("table ip t { chain c { ip saddr 192.0.2.1 drop; tcp dport 22 accept; }; }")
    first, second = here.handles()
    here.run("nft", "delete", "rule", "ip", "t", "c", "handle", str(first[2]))
    with RuleService() as rules:  # from here on they are read
        known(rules, here)
        shown = Shown(rules)
        shown.take(shown.record(here, first), shown.record(here, second))
        assert shown.until(2) == [
            f"handle {first[2]}{GONE} drop",
            said(second[2], "tcp dport 22 accept"),
        ]


def test_after_a_reload_of_many_rules_lines_wait_for_their_texts(
    here: Place, rules: RuleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_delay, "_TIMEOUT", 0)
    monkeypatch.setattr(text_delay, "_TIMEOUT_WHILE_LISTING", int(PATIENCE * 1e9))
    lines = "\n".join(f"tcp dport {n + 1} counter drop" for n in range(10_000))
    ruleset = f"flush ruleset\ntable ip t {{ chain c {{\n{lines}\n}}\n}}"
    here.load(ruleset)
    known(rules, here)
    here.load(ruleset)
    last = list(here.handles())[-1]
    until(rules.poll)  # that more was told than there was room for: what is lost may be of any rule
    shown = Shown(rules)
    shown.take(shown.record(here, last))
    assert shown.until(1) == [said(last[2], "tcp dport 10000 counter drop")]


def test_a_rule_that_took_the_place_of_another_has_its_own_text(
    here: Place, rules: RuleService
) -> None:
    """Its handle is the same; a packet that the old one dropped may be seen only later."""
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    ((table, chain, handle),) = here.handles()
    each = (table, chain, handle)
    shown = Shown(rules)
    texts: list[str] = []
    for port in range(2, 32):
        old, before = f"tcp dport {port - 1} drop", shown.record(here, each)
        carried = shown.record(here, each, kind=0)
        shown.take(before)
        here.run("nft", "replace", "rule", "ip", "t", "c", "handle", str(handle),
                 "tcp", "dport", str(port), "drop")  # fmt: skip
        shown.take(carried, shown.record(here, each))
        texts += [old, old, f"tcp dport {port} drop"]
    until(known(rules, here).poll)
    shown.take(shown.record(here, each))
    texts.append("tcp dport 31 drop")
    found = shown.until(len(texts))
    told = 0
    for line, text in zip(found, texts, strict=True):
        if GONE in line:
            continue
        assert line.endswith(f"{handle} drop: {text}")
        told += 1
    print(f"{told} of {len(texts)} texts known, 0 of another rule")
    assert GONE not in found[-1], "nothing has changed since"


class Listener:
    """What the kernel tells of changes, which a test may hold up or lose; and its generations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_late = self.loses = False
        self.asked = 0
        read, generation = RulesetMonitor.read, NetfilterSocket.generation

        def read_some(watch: RulesetMonitor) -> Changes:
            nothing = Changes({}, {}, set())
            if self.is_late:
                return nothing
            found = read(watch)
            return nothing if self.loses else found

        def count(netfilter: NetfilterSocket) -> int:
            self.asked += 1
            return generation(netfilter)

        monkeypatch.setattr(RulesetMonitor, "read", read_some)
        monkeypatch.setattr(NetfilterSocket, "generation", count)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    monkeypatch.setattr(text_delay, "_TIMEOUT_WHILE_LISTING", int(PATIENCE * 1e9))
    return Listener(monkeypatch)


def test_however_late_the_kernel_tells_no_rule_has_the_text_of_another(
    here: Place, rules: RuleService, listener: Listener
) -> None:
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    (each,) = here.handles()
    shown = Shown(known(rules, here))
    shown.take(shown.record(here, each))
    assert shown.until(1) == [said(each[2], "tcp dport 1 drop")]
    listener.is_late = True
    here.load(f"replace rule ip t c handle {each[2]} tcp dport 2 drop")
    shown.take(shown.record(here, each))
    before = listener.asked

    def asked_often() -> bool:
        shown.take()
        assert len(shown.lines) == 1, "which rule that was isn't known yet"
        return listener.asked > before + 3

    until(asked_often)
    listener.is_late = False
    assert shown.until(2)[1] == f"handle {each[2]}{GONE} drop"
    known(rules, here)
    shown.take(shown.record(here, each))
    assert shown.until(3)[2] == said(each[2], "tcp dport 2 drop")


def test_what_the_kernel_told_nobody_is_noticed(
    here: Place, rules: RuleService, listener: Listener
) -> None:
    """As for lack of memory, without an error: only the generation has grown."""
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    (each,) = here.handles()
    shown = Shown(known(rules, here))
    listener.loses = True
    here.load(f"replace rule ip t c handle {each[2]} tcp dport 2 drop")
    assert rules.poll()
    listener.loses = False
    shown.take(shown.record(here, each))
    assert shown.until(1) == [f"handle {each[2]}{GONE} drop"]
    shown.take(shown.record(here, each))
    assert shown.until(2)[1] == said(each[2], "tcp dport 2 drop")


def test_where_nobody_can_ask_for_changes_lines_wait_for_a_moment(
    here: Place, rules: RuleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_delay, "_TIMEOUT_WHILE_LISTING", int(PATIENCE * 1e9))
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    (each,) = here.handles()
    shown = Shown(known(rules, here))
    monkeypatch.setattr(NetnsOpener, "_try_open", lambda opener, inode: None)
    shown.take(shown.record(here, each))
    assert shown.lines == []
    assert shown.until(1) == [said(each[2], "tcp dport 1 drop")]
    assert rules._namespaces[here.inode].is_unreachable


@pytest.mark.usefixtures("patient")
def test_only_packets_of_a_rule_with_such_a_text(here: Place, rules: RuleService) -> None:
    here.load("table ip t { chain c { tcp dport 22 accept; tcp dport 23 drop; }; }")
    accepts, drops = here.handles()
    shown = Shown(rules, "--filter-nft-text=dport.*drop$")
    now = time.monotonic_ns()
    nothing = event(packet(2, 0, 7), 3, flow(), now, tail=tail(shown.config))
    shown.take(nothing, shown.record(here, accepts), nothing)
    shown.take(shown.record(here, drops, 2))
    assert shown.until(3)[2] == said(drops[2], "tcp dport 23 drop")
    assert [line.split()[0] for line in shown.lines] == ["0x2"] * 3
    assert shown.stages.lost() == {"pending": 0}


@pytest.mark.usefixtures("patient")
def test_the_end_shows_all_with_its_text(here: Place, rules: RuleService) -> None:
    here.load("table ip t { chain c { tcp dport 22 accept; }; }")
    (only,) = here.handles()
    shown = Shown(rules)
    shown.take(shown.record(here, only))
    shown.finish()
    assert len(shown.lines) == 1
    assert shown.lines[0].endswith(said(only[2], "tcp dport 22 accept"))


@pytest.mark.usefixtures("patient")
def test_texts_are_those_of_the_packets_namespace() -> None:
    look: Callable[[Place], Handles] = lambda where: next(iter(where.handles()))  # noqa: E731
    with place() as here, place() as there:
        for where, port in ((here, 22), (there, 23)):
            where.load(f"table ip t {{ chain c {{ tcp dport {port} drop; }}; }}")
        with RuleService() as rules:
            shown = Shown(rules)
            shown.take(*(shown.record(where, look(where)) for where in (here, there)))
            assert [line.partition(": ")[2] for line in shown.until(2)] == [
                "tcp dport 22 drop", "tcp dport 23 drop",
            ]  # fmt: skip
