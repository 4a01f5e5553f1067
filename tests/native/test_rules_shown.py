"""Records of rules in real namespaces, through the pipeline to lines; nft loads and lists them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pypwru.discovery.targets import Targets
from pypwru.kernel.netlink import NetfilterSocket
from pypwru.kernel.netns_opener import NetnsOpener
from pypwru.needs import Needs
from pypwru.nft import text_delay
from pypwru.nft.monitor import Changes, RulesetMonitor
from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.rule_service import RuleService
from pypwru.nft.service import NftSource
from pypwru.output.pipeline import Pipeline
from pypwru.output.printer import Printer
from pypwru.output.text import TextFormatter
from pypwru.phases.plan import nft_criteria
from pypwru.wire.record import Record
from tests.native.rule_namespaces import (
    EVERYTHING,
    TIMEOUT,
    RuleNamespace,
    list_rules,
    rule_namespace,
    until,
)
from tests.support import records
from tests.support.layouts import columns_of, layout_of
from tests.support.records import NFT_RULE, configured, event, flow, packet, tail

pytestmark = pytest.mark.native

Handles = tuple[int, int, int]
OFF = "--output-meta=0 --output-tuple=0 --output-nft=text"
GONE = " (text unknown)"


class RenderedRun:
    """A run's pipeline, and the lines that it printed."""

    def __init__(self, rules: RuleService, flags: str = "") -> None:
        self.config = configured(f"{OFF} {flags}")
        self.lines: list[str] = []
        nft = NftSource(records.chain_names, RuleTexts(rules))
        self.printer = Printer(
            TextFormatter(columns_of(self.config)),
            records.names()._replace(rule=nft.rule),
            lambda events: self.lines.extend(b"".join(events).decode().splitlines()),
            layout_of(self.config),
        )
        drops = records.names().is_drop
        self.event_pipeline = Pipeline(
            Needs.of(self.config),
            layout_of(self.config),
            nft_criteria(self.config) if self.config.has_nft_filter else None,
            Targets(records.FUNCTIONS),
            nft,
            drops,
        )

    def take(self, *batch: Record) -> None:
        """Process a batch of records."""
        for shown in self.event_pipeline.take(batch):
            self.printer.show(shown)

    def finish(self) -> None:
        """End the run."""
        for shown in self.event_pipeline.finish():
            self.printer.show(shown)

    def record(
        self, namespace: RuleNamespace, rule: Handles, skb: int = 1, kind: int = NFT_RULE
    ) -> Record:
        """Return the record of an nft event of ``rule``, now."""
        now = time.monotonic_ns()
        table, chain, handle = rule
        part = records.nft(handle, table=table, chain=chain, netns=namespace.inode)
        tail_ = tail(self.config, nft=part, nft_time=records.nft_time(now))
        target = 14 if kind == NFT_RULE else 3
        return event(packet(skb, 0, 7, kind), target, flow(), now, tail=tail_)

    def until(self, count: int) -> list[str]:
        """Return the nft column of each line, once there are so many."""

        def fact() -> bool:
            self.take()
            return len(self.lines) >= count

        until(fact)
        return [line.rpartition("  ")[2] for line in self.lines]


@pytest.fixture
def here() -> Iterator[RuleNamespace]:
    with rule_namespace() as made:
        yield made


@pytest.fixture
def rules(here: RuleNamespace) -> Iterator[RuleService]:
    with RuleService() as made:
        yield made


@pytest.fixture
def without_text_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text waits have the timeout of the test, however busy this machine is."""
    for name in ("_TIMEOUT", "_TIMEOUT_WHILE_LISTING"):
        monkeypatch.setattr(text_delay, name, int(TIMEOUT * 1e9))


def line_of(handle: int, text: str) -> str:
    return f"handle {handle} drop: {text}"


@pytest.mark.usefixtures("without_text_timeout")
def test_event_waits_for_text_of_rule(here: RuleNamespace, rules: RuleService) -> None:
    here.load(EVERYTHING)
    handles = here.handles()
    listed = here.run("nft", "-a", "-s", "list", "ruleset").splitlines()
    shown = RenderedRun(rules)
    shown.take(*(shown.record(here, each) for each in handles))
    assert shown.lines == [], "texts aren't waited for here"
    found = shown.until(len(handles))
    for line, (_, _, rule) in zip(found, handles, strict=True):
        text = line.removeprefix(f"handle {rule} drop: ")
        assert f"\t\t{text} # handle {rule}" in listed


def test_rule_deleted_before_start_has_no_text(here: RuleNamespace) -> None:
    here.load("table ip t { chain c { ip saddr 192.0.2.1 drop; tcp dport 22 accept; }; }")
    first, second = here.handles()
    here.run("nft", "delete", "rule", "ip", "t", "c", "handle", str(first[2]))
    with RuleService() as rules:  # from here on rules are listed
        list_rules(rules, here)
        shown = RenderedRun(rules)
        shown.take(shown.record(here, first), shown.record(here, second))
        assert shown.until(2) == [
            f"handle {first[2]}{GONE} drop",
            line_of(second[2], "tcp dport 22 accept"),
        ]


def test_events_wait_for_texts_after_reload(
    here: RuleNamespace, rules: RuleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_delay, "_TIMEOUT", 0)
    monkeypatch.setattr(text_delay, "_TIMEOUT_WHILE_LISTING", int(TIMEOUT * 1e9))
    lines = "\n".join(f"tcp dport {n + 1} counter drop" for n in range(10_000))
    ruleset = f"flush ruleset\ntable ip t {{ chain c {{\n{lines}\n}}\n}}"
    here.load(ruleset)
    list_rules(rules, here)
    here.load(ruleset)
    last = list(here.handles())[-1]
    until(rules.poll)  # the socket overflowed: any notification may be lost
    shown = RenderedRun(rules)
    shown.take(shown.record(here, last))
    assert shown.until(1) == [line_of(last[2], "tcp dport 10000 counter drop")]


def test_replacing_rule_has_own_text(here: RuleNamespace, rules: RuleService) -> None:
    """Its handle is the same; a packet that the old one dropped may be printed only later."""
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    ((table, chain, handle),) = here.handles()
    each = (table, chain, handle)
    shown = RenderedRun(rules)
    texts: list[str] = []
    for port in range(2, 32):
        old, before = f"tcp dport {port - 1} drop", shown.record(here, each)
        carried = shown.record(here, each, kind=0)
        shown.take(before)
        here.run("nft", "replace", "rule", "ip", "t", "c", "handle", str(handle),
                 "tcp", "dport", str(port), "drop")  # fmt: skip
        shown.take(carried, shown.record(here, each))
        texts += [old, old, f"tcp dport {port} drop"]
    until(list_rules(rules, here).poll)
    shown.take(shown.record(here, each))
    texts.append("tcp dport 31 drop")
    found = shown.until(len(texts))
    texts_found = 0
    for line, text in zip(found, texts, strict=True):
        if GONE in line:
            continue
        assert line.endswith(f"{handle} drop: {text}")
        texts_found += 1
    print(f"{texts_found} of {len(texts)} texts known, 0 of another rule")
    assert GONE not in found[-1], "nothing has changed since"


class DelayedMonitor:
    """Notifications that a test may hold up or lose, and readings of the generation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_stopped = self.loses_changes = False
        self.readings = 0
        read, generation = RulesetMonitor.read, NetfilterSocket.generation

        def read_some(subscriber: RulesetMonitor) -> Changes:
            nothing = Changes({}, {}, set())
            if self.is_stopped:
                return nothing
            found = read(subscriber)
            return nothing if self.loses_changes else found

        def count(netfilter: NetfilterSocket) -> int:
            self.readings += 1
            return generation(netfilter)

        monkeypatch.setattr(RulesetMonitor, "read", read_some)
        monkeypatch.setattr(NetfilterSocket, "generation", count)


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> DelayedMonitor:
    monkeypatch.setattr(text_delay, "_TIMEOUT_WHILE_LISTING", int(TIMEOUT * 1e9))
    return DelayedMonitor(monkeypatch)


def test_late_notification_gives_no_wrong_text(
    here: RuleNamespace, rules: RuleService, monitor: DelayedMonitor
) -> None:
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    (each,) = here.handles()
    shown = RenderedRun(list_rules(rules, here))
    shown.take(shown.record(here, each))
    assert shown.until(1) == [line_of(each[2], "tcp dport 1 drop")]
    monitor.is_stopped = True
    here.load(f"replace rule ip t c handle {each[2]} tcp dport 2 drop")
    shown.take(shown.record(here, each))
    before = monitor.readings

    def has_been_read_often() -> bool:
        shown.take()
        assert len(shown.lines) == 1, "the rule is not known yet"
        return monitor.readings > before + 3

    until(has_been_read_often)
    monitor.is_stopped = False
    assert shown.until(2)[1] == f"handle {each[2]}{GONE} drop"
    list_rules(rules, here)
    shown.take(shown.record(here, each))
    assert shown.until(3)[2] == line_of(each[2], "tcp dport 2 drop")


def test_lost_notification_is_noticed(
    here: RuleNamespace, rules: RuleService, monitor: DelayedMonitor
) -> None:
    """As for lack of memory, without an error: only the generation has grown."""
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    (each,) = here.handles()
    shown = RenderedRun(list_rules(rules, here))
    monitor.loses_changes = True
    here.load(f"replace rule ip t c handle {each[2]} tcp dport 2 drop")
    assert rules.poll()
    monitor.loses_changes = False
    shown.take(shown.record(here, each))
    assert shown.until(1) == [f"handle {each[2]}{GONE} drop"]
    shown.take(shown.record(here, each))
    assert shown.until(2)[1] == line_of(each[2], "tcp dport 2 drop")


def test_lines_wait_where_namespace_is_unreachable(
    here: RuleNamespace, rules: RuleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_delay, "_TIMEOUT_WHILE_LISTING", int(TIMEOUT * 1e9))
    here.load("table ip t { chain c { tcp dport 1 drop; }; }")
    (each,) = here.handles()
    shown = RenderedRun(list_rules(rules, here))
    monkeypatch.setattr(NetnsOpener, "_try_open", lambda opener, inode: None)
    shown.take(shown.record(here, each))
    assert shown.lines == []
    assert shown.until(1) == [line_of(each[2], "tcp dport 1 drop")]
    assert rules._namespaces[here.inode].is_unreachable


@pytest.mark.usefixtures("without_text_timeout")
def test_filter_nft_text_selects_packets(here: RuleNamespace, rules: RuleService) -> None:
    here.load("table ip t { chain c { tcp dport 22 accept; tcp dport 23 drop; }; }")
    accepts, drops = here.handles()
    shown = RenderedRun(rules, "--filter-nft-text=dport.*drop$")
    now = time.monotonic_ns()
    nothing = event(packet(2, 0, 7), 3, flow(), now, tail=tail(shown.config))
    shown.take(nothing, shown.record(here, accepts), nothing)
    shown.take(shown.record(here, drops, 2))
    assert shown.until(3)[2] == line_of(drops[2], "tcp dport 23 drop")
    assert [line.split()[0] for line in shown.lines] == ["0x2"] * 3
    assert shown.event_pipeline.lost() == {"pending": 0}


@pytest.mark.usefixtures("without_text_timeout")
def test_finish_prints_pending_events_with_text(here: RuleNamespace, rules: RuleService) -> None:
    here.load("table ip t { chain c { tcp dport 22 accept; }; }")
    (only,) = here.handles()
    shown = RenderedRun(rules)
    shown.take(shown.record(here, only))
    shown.finish()
    assert len(shown.lines) == 1
    assert shown.lines[0].endswith(line_of(only[2], "tcp dport 22 accept"))


@pytest.mark.usefixtures("without_text_timeout")
def test_texts_are_of_packets_namespace() -> None:
    look: Callable[[RuleNamespace], Handles] = lambda namespace: next(iter(namespace.handles()))  # noqa: E731
    with rule_namespace() as here, rule_namespace() as there:
        for namespace, port in ((here, 22), (there, 23)):
            namespace.load(f"table ip t {{ chain c {{ tcp dport {port} drop; }}; }}")
        with RuleService() as rules:
            shown = RenderedRun(rules)
            shown.take(*(shown.record(namespace, look(namespace)) for namespace in (here, there)))
            assert [line.partition(": ")[2] for line in shown.until(2)] == [
                "tcp dport 22 drop", "tcp dport 23 drop",
            ]  # fmt: skip
