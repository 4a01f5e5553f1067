"""Texts of rules that change, and of namespaces that end, while they are looked up."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pypwru.kernel.netlink import GET_TABLE, Message, NetfilterSocket
from pypwru.kernel.netns import run_in_namespace
from pypwru.nft import monitor
from pypwru.nft.list_ruleset import RulesetLister
from pypwru.nft.rule_service import RuleService
from pypwru.nft.ruleset import ChainText, RuleText
from tests.native.rule_namespaces import TIMEOUT, RuleNamespace, list_rules, rule_namespace, until

pytestmark = pytest.mark.native

REPLACEMENTS = 200


def test_notified_rule_needs_no_listing(here: RuleNamespace, rules: RuleService) -> None:
    here.load("table ip t { chain c { accept; }; }")
    list_rules(rules, here)
    changes = rules.revision
    here.load("add rule ip t c tcp dport 22 drop")
    until(lambda: rules.revision > changes)
    assert rules.rule(here.inode, here.table(), 1, 3) == RuleText("tcp dport 22 drop", "")


def test_deleted_rules_keep_their_text(here: RuleNamespace, rules: RuleService) -> None:
    here.load('table ip t { chain c { accept comment "first"; }; chain d { drop; }; }')
    first = here.table()
    list_rules(rules, here)
    here.load("delete table ip t; table ip t { chain c { drop; }; }")
    second = here.table()
    assert second != first
    list_rules(rules, here)
    assert rules.rule(here.inode, first, 1, 3) == RuleText('accept comment "first"', "first")
    assert rules.chain(here.inode, first, 2) == ChainText("ip", "t", "d")
    assert rules.rule(here.inode, second, 1, 2) == RuleText("drop", "")
    here.load("flush ruleset")
    list_rules(rules, here)
    assert rules.rule(here.inode, second, 1, 2) == RuleText("drop", "")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("nft 'table ip t { chain c { accept; }; }'", "nft 'replace rule ip t c handle 2 drop'"),
        (
            "nft 'table ip t { chain c { accept; }; }'",
            # Twice between two reads: the rule between them has no text.
            "nft 'replace rule ip t c handle 2 return'; nft 'replace rule ip t c handle 2 drop'",
        ),
        ("iptables-nft -A INPUT -j ACCEPT", "iptables-nft -R INPUT 1 -j DROP"),
    ],
    ids=["nft", "nft twice", "iptables"],
)
def test_replaced_rule_is_found_by_time(
    here: RuleNamespace, rules: RuleService, first: str, second: str
) -> None:
    """Both rules have one handle: the time of the event selects the text."""
    here.run("sh", "-c", first)
    (handles,) = here.handles()
    list_rules(rules, here)
    early = time.monotonic_ns()
    old = rules.rule(here.inode, *handles, at=early)
    here.run("sh", "-c", second)
    # Unless it was listed by now there is no text, and surely not the old one.
    assert rules.rule(here.inode, *handles) != old
    list_rules(rules, here)
    assert list(here.handles()) == [handles]
    new = rules.rule(here.inode, *handles)
    assert old and new and "drop" in new.text.lower() and "accept" in old.text.lower()
    after_change = time.monotonic_ns()
    assert rules.rule(here.inode, *handles, at=early) in (
        None,
        old,
    )  # None: the change's time is known to 100 ms
    here.load("flush ruleset")
    list_rules(rules, here)
    assert rules.rule(here.inode, *handles, at=after_change) == new


def test_rule_before_its_replacement_has_text(here: RuleNamespace, rules: RuleService) -> None:
    here.load("table ip t { chain c { accept; }; }")
    (handles,) = here.handles()
    list_rules(rules, here)
    early = time.monotonic_ns()
    until(lambda: rules.is_current(here.inode, early))
    assert rules.rule(here.inode, *handles) == RuleText("accept", "")
    here.load("replace rule ip t c handle 2 drop")
    list_rules(rules, here)
    assert rules.rule(here.inode, *handles, at=early) == RuleText("accept", "")
    assert rules.rule(here.inode, *handles) == RuleText("drop", "")


def test_event_before_subscription_has_no_text(rules: RuleService) -> None:
    with rule_namespace() as late:
        late.load("table ip t { chain c { accept; }; }")
        (handles,) = late.handles()
        early = time.monotonic_ns()
        late.load("replace rule ip t c handle 2 drop")
        list_rules(rules, late)
        assert rules.rule(late.inode, *handles, at=early) is None
        assert rules.rule(late.inode, *handles) == RuleText("drop", "")


def test_rule_replaced_before_listing_has_no_text(here: RuleNamespace, rules: RuleService) -> None:
    assert rules.wait_listed(TIMEOUT)  # what is listed at the start is over
    here.load("table ip t { chain c { accept; }; }")
    early = time.monotonic_ns()
    here.load("replace rule ip t c handle 2 drop")
    list_rules(rules, here)
    assert rules.rule(here.inode, here.table(), 1, 2, at=early) is None
    assert rules.rule(here.inode, here.table(), 1, 2) == RuleText("drop", "")


def test_wait_for_commit_ends_after_notifications(here: RuleNamespace) -> None:
    """A commit increments the generation at its start and notifies at its end."""
    lines = "\n".join(f"tcp dport {number + 1} counter drop" for number in range(3_000))
    subscriber = monitor.RulesetMonitor()
    with contextlib.closing(subscriber), open(f"/run/netns/{here.name}") as file:
        subscriber.subscribe(here.inode, file.fileno())

        def load_and_wait() -> None:
            with NetfilterSocket() as netfilter:
                for _ in range(5):
                    before = netfilter.generation()
                    loading = threading.Thread(
                        target=here.load, args=(f"table ip t {{ chain c {{\n{lines}\n}}; }}",)
                    )
                    loading.start()
                    until(lambda before=before: netfilter.generation() != before)  # type: ignore[misc]
                    netfilter.wait_for_commit()
                    reads = [subscriber.read()]
                    while reads[-1].is_partial:
                        assert len(reads) < 1_000
                        reads.append(subscriber.read())
                    assert reads[-1].generations == {here.inode: before + 1}
                    loading.join()
                    assert netfilter.generation() == before + 1, "an empty batch is no commit"

        run_in_namespace(file.fileno(), load_and_wait)


def test_table_recreated_during_listing(
    here: RuleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of rules have their table's name, not its handle."""
    here.load('table inet t { chain c { tcp dport 22 drop comment "old"; }; }')
    old, dump = here.table(), NetfilterSocket.dump

    def dump_slowly(
        readings: NetfilterSocket, kind: int, *, consistent: bool = True
    ) -> list[Message]:
        found = dump(readings, kind, consistent=consistent)
        if kind == GET_TABLE and here.table() == old:
            here.load('flush ruleset; table inet t { chain c { accept comment "new"; }; }')
        return found

    monkeypatch.setattr(NetfilterSocket, "dump", dump_slowly)
    with open(f"/run/netns/{here.name}") as file:
        listing = RulesetLister().list(file.fileno(), -1)
        assert listing and not listing.tables and not listing.texts and not listing.is_complete
        listing = RulesetLister().list(file.fileno(), -1)
    assert listing and listing.is_complete
    assert listing.texts == {(here.table(), 1, 2): 'accept comment "new"'}


def test_listed_namespace_can_end(here: RuleNamespace, rules: RuleService) -> None:
    outside = f"pwr{os.getpid()}"
    subprocess.run(
        ["ip", "link", "add", outside, "type", "veth", "peer", "name", "in", "netns", here.name],
        check=True,
    )
    here.load("table ip t { chain c { accept; }; }")
    list_rules(rules, here)
    assert rules.rule(here.inode, here.table(), 1, 2)
    subprocess.run(["ip", "netns", "del", here.name], check=True)
    until(lambda: not os.path.exists(f"/sys/class/net/{outside}"))


def test_reused_inode_has_no_old_texts(rules: RuleService) -> None:
    seen: dict[int, str] = {}
    reused = 0
    for number in range(40):
        with rule_namespace() as each:
            each.load(f"table ip t {{ chain c {{ tcp dport {number + 1} drop; }}; }}")
            reused += each.inode in seen
            # A lookup before it was listed finds nothing, never a rule of the former namespace.
            handles = (each.inode, each.table(), 1, 2)
            assert rules.rule(*handles) is None
            assert rules.relist(TIMEOUT)
            seen[each.inode] = text = f"tcp dport {number + 1} drop"
            assert rules.rule(*handles) == RuleText(text, "")
        until(lambda handles=handles: rules.rule(*handles) is None)  # type: ignore[misc]
    assert reused > 5, "no inode was reused"


class Loaded(NamedTuple):
    """The rule under a handle from some time of a load on; ns of CLOCK_MONOTONIC."""

    comment: str
    began: int
    ended: int


class Replacement:
    """Loads rulesets repeatedly, and records by nft's JSON which rule each handle had when."""

    def __init__(self, namespace: RuleNamespace) -> None:
        self.namespace = namespace
        self.truth: dict[tuple[int, int, int], list[Loaded]] = {}
        self.now: dict[tuple[int, int, int], str] = {}
        self._random = random.Random(4)

    def _rule(self, number: str) -> str:
        return f'tcp dport {self._random.randrange(1, 65536)} drop comment "{number}"'

    def _chain(self, number: int) -> str:
        rules = [self._rule(f"{number}.{n}") for n in range(self._random.randrange(1, 12))]
        return "\n".join(["table inet t { chain c {", *rules, "}", "}"])

    def load(self, number: int) -> None:
        """Replace the ruleset in one of several ways, in one transaction."""
        way = self._random.choice(
            [
                "flush ruleset",
                "table inet t\ndelete table inet t",
                "table inet t { chain c { }; }\nflush table inet t",
                "table inet t { chain c { }; }\nflush chain inet t c",
                "replace",
            ]
        )
        if way == "replace" and self.now:
            (_, _, handle), _ = self._random.choice(sorted(self.now.items()))
            text = f"replace rule inet t c handle {handle} {self._rule(f'{number}.0')}"
        else:
            text = f"{way.replace('replace', 'flush ruleset')}\n{self._chain(number)}"
        began = time.monotonic_ns()
        self.namespace.load(text)
        ended = time.monotonic_ns()
        before, self.now = (
            self.now,
            {h: str(r["comment"]) for h, r in self.namespace.handles().items()},
        )
        for handles, comment in self.now.items():
            if before.get(handles) != comment:
                self.truth.setdefault(handles, []).append(Loaded(comment, began, ended))

    def could_be(self, handles: tuple[int, int, int], at: int, answer: RuleText) -> bool:
        """Return whether an event at ``at`` may have been of the rule that ``answer`` describes."""
        loads = self.truth.get(handles, [])
        ends = [each.ended for each in loads[1:]] + [1 << 63]
        return any(
            load.comment == answer.comment
            and load.began <= at <= end
            and (not answer.text or f'comment "{load.comment}"' in answer.text)
            for load, end in zip(loads, ends, strict=True)
        )


def test_texts_while_rulesets_are_replaced(
    here: RuleNamespace, rules: RuleService, capsys: pytest.CaptureFixture[str]
) -> None:
    """All texts that were found are compared with the rule under the handle at that time."""
    replaced = Replacement(here)
    answers: list[tuple[tuple[int, int, int], int, RuleText]] = []
    lookups = 0
    done = threading.Event()

    def look_up() -> None:
        nonlocal lookups
        pick = random.Random(5)
        while not done.is_set():
            newest = max(replaced.truth, default=(1, 1, 2))
            for _ in range(20):  # at and around the newest, also handles without a rule
                table, rule = newest[0] + pick.randrange(-3, 2), newest[2] + pick.randrange(-9, 12)
                at = time.monotonic_ns() - pick.choice([0, 0, pick.randrange(500_000_000)])
                answer = rules.rule(here.inode, table, 1, rule, at)
                lookups += 1
                if answer:
                    answers.append(((table, 1, rule), at, answer))
            time.sleep(0.001)

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        for number in range(REPLACEMENTS):
            replaced.load(number)
    finally:
        done.set()
        thread.join()
    list_rules(rules, here)
    end = time.monotonic_ns()
    until(rules.poll)  # while notifications of a commit are read, nothing newer is known
    last = {h: rules.rule(here.inode, *h, at=end) for h in replaced.now}
    # A lookup at a time before a table was made is of the table's own handle.
    wrong = [
        (handles, at, answer)
        for handles, at, answer in answers
        if not replaced.could_be(handles, max(at, replaced.truth[handles][0].began), answer)
    ]
    with_text = {handles for handles, _, answer in answers if answer.text}
    versions = sum(map(len, replaced.truth.values()))
    with capsys.disabled():
        print(
            f"\n{REPLACEMENTS} replacements, {versions:,} rules under "
            f"{len(replaced.truth):,} handles, "
            f"{lookups:,} lookups, {len(answers):,} answers, of {len(with_text):,} handles; "
            f"{len(wrong)} wrong"
        )
    assert not wrong
    assert {h: answer and answer.comment for h, answer in last.items()} == replaced.now
    assert all(answer and answer.text for answer in last.values())
    assert versions > len(replaced.truth) and len(with_text) > len(replaced.truth) // 10


@pytest.fixture
def rules_with_small_buffer(monkeypatch: pytest.MonkeyPatch) -> Iterator[RuleService]:
    monkeypatch.setattr(monitor, "_RCVBUF", 4096)
    with RuleService() as made:
        yield made


def test_lost_notifications_cause_listing(
    here: RuleNamespace, rules_with_small_buffer: RuleService
) -> None:
    """A small socket buffer overflows at once: all is listed again, and right."""
    rules = rules_with_small_buffer
    here.load('table ip t { chain c { accept comment "old"; }; }')
    list_rules(rules, here)
    for number in range(20):
        some = "\n".join(f'tcp dport {n + 1} drop comment "{number}"' for n in range(300))
        here.load(f'replace rule ip t c handle 2 drop comment "{number}"')
        here.load(f"flush chain ip t c\ntable ip t {{ chain c {{\n{some}\n}}\n}}")
        here.load(f'flush ruleset; table ip t {{ chain c {{ accept comment "{number}"; }}; }}')
        table, chain, rule = next(iter(here.handles()))
        found = rules.rule(here.inode, table, chain, rule, at=time.monotonic_ns())
        assert found is None or found.comment == str(number)
        list_rules(rules, here)
        found = rules.rule(here.inode, table, chain, rule, at=time.monotonic_ns())
        assert found == RuleText(f'accept comment "{number}"', str(number))
    assert rules._namespaces[here.inode].history._uncertain


def test_commit_whose_end_is_lost_is_dropped(
    here: RuleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose beginning is read in several turns, and whose end found no room."""
    monkeypatch.setattr(monitor, "_RCVBUF", 1 << 18)
    monkeypatch.setattr(monitor, "_MAX_DATAGRAMS", 10)
    watch = monitor.RulesetMonitor()
    with contextlib.closing(watch), open(f"/run/netns/{here.name}") as file:
        watch.subscribe(here.inode, file.fileno())
        rules = "accept\n" * 5_000
        here.load(f"table ip t {{ chain c {{\n{rules}}}\n}}")
        turns = [watch.read()]
        while turns[-1].is_partial and len(turns) < 1_000:
            turns.append(watch.read())
        assert 2 < len(turns) < 1_000
        assert all(turn.has_overflowed and not turn.commits for turn in turns)
        here.load("add rule ip t c drop")
        assert list(watch.read().commits) == [here.inode]
