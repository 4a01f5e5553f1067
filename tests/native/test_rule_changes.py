"""Rules that change, and namespaces that end, while their texts are asked for."""

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
from tests.native.rule_places import PATIENCE, Place, known, place, until

pytestmark = pytest.mark.native

REPLACEMENTS = 200


def test_what_the_kernel_tells_is_known_without_a_question(here: Place, rules: RuleService) -> None:
    here.load("table ip t { chain c { accept; }; }")
    known(rules, here)
    changes = rules.revision
    here.load("add rule ip t c tcp dport 22 drop")
    until(lambda: rules.revision > changes)
    assert rules.rule(here.inode, here.table(), 1, 3) == RuleText("tcp dport 22 drop", "")


def test_what_went_stays_known(here: Place, rules: RuleService) -> None:
    here.load('table ip t { chain c { accept comment "first"; }; chain d { drop; }; }')
    first = here.table()
    known(rules, here)
    here.load("delete table ip t; table ip t { chain c { drop; }; }")
    second = here.table()
    assert second != first
    known(rules, here)
    assert rules.rule(here.inode, first, 1, 3) == RuleText('accept comment "first"', "first")
    assert rules.chain(here.inode, first, 2) == ChainText("ip", "t", "d")
    assert rules.rule(here.inode, second, 1, 2) == RuleText("drop", "")
    here.load("flush ruleset")
    known(rules, here)
    assert rules.rule(here.inode, second, 1, 2) == RuleText("drop", "")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("nft 'table ip t { chain c { accept; }; }'", "nft 'replace rule ip t c handle 2 drop'"),
        (
            "nft 'table ip t { chain c { accept; }; }'",
            # Twice in one look: the one between them is nobody's to tell.
            "nft 'replace rule ip t c handle 2 return'; nft 'replace rule ip t c handle 2 drop'",
        ),
        ("iptables-nft -A INPUT -j ACCEPT", "iptables-nft -R INPUT 1 -j DROP"),
    ],
    ids=["nft", "nft twice", "iptables"],
)
def test_a_rule_in_the_place_of_another(
    here: Place, rules: RuleService, first: str, second: str
) -> None:
    """It has the handle of the other one: the time of the event tells them apart."""
    here.run("sh", "-c", first)
    (handles,) = here.handles()
    known(rules, here)
    early = time.monotonic_ns()
    old = rules.rule(here.inode, *handles, at=early)
    here.run("sh", "-c", second)
    # Unless it was listed by now, nothing is known, and surely not the old one.
    assert rules.rule(here.inode, *handles) != old
    known(rules, here)
    assert list(here.handles()) == [handles]
    new = rules.rule(here.inode, *handles)
    assert old and new and "drop" in new.text.lower() and "accept" in old.text.lower()
    told = time.monotonic_ns()
    assert rules.rule(here.inode, *handles, at=early) in (None, old)  # so short before, it may be
    here.load("flush ruleset")
    known(rules, here)
    assert rules.rule(here.inode, *handles, at=told) == new


def test_before_its_place_was_taken_a_rule_is_known(here: Place, rules: RuleService) -> None:
    here.load("table ip t { chain c { accept; }; }")
    (handles,) = here.handles()
    known(rules, here)
    early = time.monotonic_ns()
    until(lambda: rules.is_current(here.inode, early))
    assert rules.rule(here.inode, *handles) == RuleText("accept", "")
    here.load("replace rule ip t c handle 2 drop")
    known(rules, here)
    assert rules.rule(here.inode, *handles, at=early) == RuleText("accept", "")
    assert rules.rule(here.inode, *handles) == RuleText("drop", "")


def test_what_spoke_before_its_namespace_was_listened_to_is_not_known(rules: RuleService) -> None:
    with place() as late:
        late.load("table ip t { chain c { accept; }; }")
        (handles,) = late.handles()
        early = time.monotonic_ns()
        late.load("replace rule ip t c handle 2 drop")
        known(rules, late)
        assert rules.rule(late.inode, *handles, at=early) is None
        assert rules.rule(late.inode, *handles) == RuleText("drop", "")


def test_a_rule_replaced_before_the_first_question(here: Place, rules: RuleService) -> None:
    assert rules.wait_listed(PATIENCE)  # what is listed at the start is over
    here.load("table ip t { chain c { accept; }; }")
    early = time.monotonic_ns()
    here.load("replace rule ip t c handle 2 drop")
    known(rules, here)
    assert rules.rule(here.inode, here.table(), 1, 2, at=early) is None
    assert rules.rule(here.inode, here.table(), 1, 2) == RuleText("drop", "")


def test_after_a_wait_the_kernel_has_told_of_all_commits_until_then(here: Place) -> None:
    """The generation grows at the beginning of a commit, what is told of it comes at its end."""
    lines = "\n".join(f"tcp dport {number + 1} counter drop" for number in range(3_000))
    watch = monitor.RulesetMonitor()
    with contextlib.closing(watch), open(f"/run/netns/{here.name}") as file:
        watch.subscribe(here.inode, file.fileno())

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
                    turns = [watch.read()]
                    while turns[-1].is_partial:
                        assert len(turns) < 1_000
                        turns.append(watch.read())
                    assert turns[-1].generations == {here.inode: before + 1}
                    loading.join()
                    assert netfilter.generation() == before + 1, "an empty batch is no commit"

        run_in_namespace(file.fileno(), load_and_wait)


def test_a_table_created_anew_while_it_is_listed(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules name their table, not its handle: those of the new one aren't the old one's."""
    here.load('table inet t { chain c { tcp dport 22 drop comment "old"; }; }')
    old, dump = here.table(), NetfilterSocket.dump

    def dump_slowly(asked: NetfilterSocket, kind: int, *, consistent: bool = True) -> list[Message]:
        found = dump(asked, kind, consistent=consistent)
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


def test_a_namespace_is_not_kept_from_ending(here: Place, rules: RuleService) -> None:
    outside = f"pwr{os.getpid()}"
    subprocess.run(
        ["ip", "link", "add", outside, "type", "veth", "peer", "name", "in", "netns", here.name],
        check=True,
    )
    here.load("table ip t { chain c { accept; }; }")
    known(rules, here)
    assert rules.rule(here.inode, here.table(), 1, 2)
    subprocess.run(["ip", "netns", "del", here.name], check=True)
    until(lambda: not os.path.exists(f"/sys/class/net/{outside}"))


def test_a_namespace_with_the_inode_of_one_that_ended(rules: RuleService) -> None:
    seen: dict[int, str] = {}
    again = 0
    for number in range(40):
        with place() as each:
            each.load(f"table ip t {{ chain c {{ tcp dport {number + 1} drop; }}; }}")
            again += each.inode in seen
            # A question before it was listed: nothing, never what the one before had.
            handles = (each.inode, each.table(), 1, 2)
            assert rules.rule(*handles) is None
            assert rules.relist(PATIENCE)
            seen[each.inode] = text = f"tcp dport {number + 1} drop"
            assert rules.rule(*handles) == RuleText(text, "")
        until(lambda handles=handles: rules.rule(*handles) is None)  # type: ignore[misc]
    assert again > 5, "the kernel gave no inode again"


class Loaded(NamedTuple):
    """What was under a handle from some moment of a load on; CLOCK_MONOTONIC, ns."""

    comment: str
    began: int
    ended: int


class Replacement:
    """Loads rulesets again and again, and knows by nft's JSON what was under each handle when."""

    def __init__(self, where: Place) -> None:
        self.where = where
        self.truth: dict[tuple[int, int, int], list[Loaded]] = {}
        self.now: dict[tuple[int, int, int], str] = {}
        self._random = random.Random(4)

    def _rule(self, number: str) -> str:
        return f'tcp dport {self._random.randrange(1, 65536)} drop comment "{number}"'

    def _chain(self, number: int) -> str:
        rules = [self._rule(f"{number}.{n}") for n in range(self._random.randrange(1, 12))]
        return "\n".join(["table inet t { chain c {", *rules, "}", "}"])

    def load(self, number: int) -> None:
        """One of the ways in which a ruleset is replaced in one transaction."""
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
        self.where.load(text)
        ended = time.monotonic_ns()
        before, self.now = self.now, {h: str(r["comment"]) for h, r in self.where.handles().items()}
        for handles, comment in self.now.items():
            if before.get(handles) != comment:
                self.truth.setdefault(handles, []).append(Loaded(comment, began, ended))

    def could_be(self, handles: tuple[int, int, int], at: int, answer: RuleText) -> bool:
        """Whether an event of that time may have been of a rule like the answer."""
        loads = self.truth.get(handles, [])
        ends = [each.ended for each in loads[1:]] + [1 << 63]
        return any(
            load.comment == answer.comment
            and load.began <= at <= end
            and (not answer.text or f'comment "{load.comment}"' in answer.text)
            for load, end in zip(loads, ends, strict=True)
        )


def test_replacements(here: Place, rules: RuleService, capsys: pytest.CaptureFixture[str]) -> None:
    """All answers that were given are compared with what was loaded under the handle then."""
    replaced = Replacement(here)
    answers: list[tuple[tuple[int, int, int], int, RuleText]] = []
    asked = 0
    done = threading.Event()

    def ask() -> None:
        nonlocal asked
        pick = random.Random(5)
        while not done.is_set():
            newest = max(replaced.truth, default=(1, 1, 2))
            for _ in range(20):  # at and around the newest, also what isn't there yet
                table, rule = newest[0] + pick.randrange(-3, 2), newest[2] + pick.randrange(-9, 12)
                at = time.monotonic_ns() - pick.choice([0, 0, pick.randrange(500_000_000)])
                answer = rules.rule(here.inode, table, 1, rule, at)
                asked += 1
                if answer:
                    answers.append(((table, 1, rule), at, answer))
            time.sleep(0.001)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(REPLACEMENTS):
            replaced.load(number)
    finally:
        done.set()
        asking.join()
    known(rules, here)
    at_last = time.monotonic_ns()
    until(rules.poll)  # while the kernel tells of a commit, wherever, nothing newer is known
    last = {h: rules.rule(here.inode, *h, at=at_last) for h in replaced.now}
    # An answer to a question about the time before a table's making is of the table's own handle.
    wrong = [
        (handles, at, answer)
        for handles, at, answer in answers
        if not replaced.could_be(handles, max(at, replaced.truth[handles][0].began), answer)
    ]
    told = {handles for handles, _, answer in answers if answer.text}
    versions = sum(map(len, replaced.truth.values()))
    with capsys.disabled():
        print(
            f"\n{REPLACEMENTS} replacements, {versions:,} rules under "
            f"{len(replaced.truth):,} handles, "
            f"{asked:,} questions, {len(answers):,} answers, of {len(told):,} handles; "
            f"{len(wrong)} wrong"
        )
    assert not wrong
    assert {h: answer and answer.comment for h, answer in last.items()} == replaced.now
    assert all(answer and answer.text for answer in last.values())
    assert versions > len(replaced.truth) and len(told) > len(replaced.truth) // 10


@pytest.fixture
def rules_of_little_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[RuleService]:
    monkeypatch.setattr(monitor, "_RCVBUF", 4096)
    with RuleService() as made:
        yield made


def test_more_changes_than_the_kernel_can_tell(
    here: Place, rules_of_little_room: RuleService
) -> None:
    """A small buffer for what it tells is full at once: all is listed again, and right."""
    rules = rules_of_little_room
    here.load('table ip t { chain c { accept comment "old"; }; }')
    known(rules, here)
    for number in range(20):
        some = "\n".join(f'tcp dport {n + 1} drop comment "{number}"' for n in range(300))
        here.load(f'replace rule ip t c handle 2 drop comment "{number}"')
        here.load(f"flush chain ip t c\ntable ip t {{ chain c {{\n{some}\n}}\n}}")
        here.load(f'flush ruleset; table ip t {{ chain c {{ accept comment "{number}"; }}; }}')
        table, chain, rule = next(iter(here.handles()))
        found = rules.rule(here.inode, table, chain, rule, at=time.monotonic_ns())
        assert found is None or found.comment == str(number)
        known(rules, here)
        found = rules.rule(here.inode, table, chain, rule, at=time.monotonic_ns())
        assert found == RuleText(f'accept comment "{number}"', str(number))
    assert rules._namespaces[here.inode].history._uncertain


def test_what_has_begun_when_more_is_lost_has_no_end(
    here: Place, monkeypatch: pytest.MonkeyPatch
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
