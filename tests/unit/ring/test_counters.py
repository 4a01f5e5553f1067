"""Sums over CPUs of the handlers' counters."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pypwru.attach.report import AttachReport
from pypwru.config import Backend
from pypwru.kernel import bpf
from pypwru.needs import Needs
from pypwru.ring import counters
from pypwru.ring.counters import (
    Counters,
    count_evicted,
    count_lost_ids,
    count_suppressed,
    possible_cpus,
    read_counters,
    summarize,
)
from pypwru.wire.record import COUNTERS_SIZE
from tests.support.records import configured


def test_summary_accounts_for_all_events() -> None:
    report = AttachReport(target_count=30, ignored=[("tp", "why")])
    summary = summarize(7, 3, Counters(produced=20, ring_full=4), {}, {"recursion": 2}, report)
    assert summary == {
        "events": 7,
        "packets": 3,
        "produced": 20,
        "lost_ring_full": 4,
        "lost_recursion": 2,
        "not_shown": 9,
        "attached": 30,
        "ignored": 1,
    }


def test_unidentified_packets_are_not_counted() -> None:
    summary = summarize(7, None, Counters(produced=20), {}, {}, AttachReport())
    assert "packets" not in summary


def test_counters_are_summed_over_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(fd: int, index: int, size: int) -> bytes:
        assert (fd, index, size) == (7, 0, COUNTERS_SIZE * 3)
        return struct.pack(
            "=45Q",
            *(10, 1, 5, 4, 0, 0, 6, 1, 1, 2, 3, 4, 5, 6, 7),
            *(20, 2, 0, 0, 7, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1),
            *(1 << 40, 3, 2, 1, 0, 2, 7, 1, 0, 0, 0, 0, 0, 0, 9),
        )

    monkeypatch.setattr(counters, "possible_cpus", lambda: 3)
    monkeypatch.setattr(bpf, "map_lookup", lookup)
    assert read_counters(7) == Counters((1 << 40) + 30, 6, 7, 5, 7, 3, 13, 2, 2, 3, 4, 5, 6, 7, 17)


def test_count_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "map_keys", lambda fd, size: iter([b"12345678"] * 3))
    totals = Counters(tracked_added=20, tracked_removed=6, verdict_added=9, verdict_removed=5)
    assert count_evicted(totals, {"tracked": 7}) == {"tracking": 11}
    assert count_evicted(totals, {"tracked": 7, "verdicts": 8}) == {"tracking": 11, "verdicts": 1}


COUNTERS = Counters(
    produced=20, ring_full=1, not_sampled=4, throttled=3, over_rate=2, free_records_lost=9
)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", {}),
        ("--sample-rate 2", {"not_sampled": 4}),
        ("--sample-flow 2 --max-hits 1", {"not_sampled": 4, "throttled": 3}),
        ("--rate-limit 5", {"over_rate": 2}),
    ],
)
def test_count_suppressed(flags: str, expected: dict[str, int]) -> None:
    suppressed = count_suppressed(COUNTERS, Needs.of(configured(flags)))
    assert suppressed == expected
    summary = summarize(6, 1, COUNTERS, suppressed, {}, AttachReport())
    assert summary["produced"] == sum(suppressed.values()) + 6 + 1 + summary["not_shown"]


def test_count_lost_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [0xFFFF888000000101, 0xFFFF888000000201, 0xFFFF888000000100, 0xFFFF888000000103]
    octets = [key.to_bytes(8, "little") for key in keys]
    monkeypatch.setattr(bpf, "map_keys", lambda fd, size: iter(octets))
    totals = COUNTERS._replace(id_inserted=10, id_removed=5)

    def lost_ids(flags: str, backend: Backend, maps: dict[str, int]) -> dict[str, int]:
        return count_lost_ids(backend, totals, maps, Needs.of(configured(flags)))

    seen = {"seen": 7}
    assert lost_ids("--sample-rate 2", Backend.KPROBE, seen) == {"packet_ids": 3}
    assert lost_ids("--stats", Backend.KPROBE, seen) == {"free_events": 9, "packet_ids": 3}
    assert lost_ids("--stats", Backend.TRACEPOINT, seen) == {"free_events": 9}
    assert lost_ids("", Backend.KPROBE, {}) == {}


@pytest.mark.parametrize(
    ("text", "cpus"), [("0\n", 1), ("0-1\n", 2), ("0-255\n", 256), ("0-3,8-11\n", 12), ("0,2\n", 3)]
)
def test_possible_cpus(text: str, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert possible_cpus() == cpus
