"""Sums over CPUs of what the handlers counted."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pypwru.attach.attached import Attached
from pypwru.events import counters
from pypwru.events.counters import Counters, account, possible_cpus, read_counters, thrown_out
from pypwru.events.record import COUNTERS_SIZE
from pypwru.kernel import bpf


def test_every_sight_has_its_place() -> None:
    report = Attached(functions=30, ignored=[("tp", "why")])
    told = account(7, 3, Counters(produced=20, ring_full=4), {"recursion": 2}, report)
    assert told == {
        "events": 7,
        "packets": 3,
        "produced": 20,
        "lost_ring_full": 4,
        "lost_recursion": 2,
        "not_shown": 9,
        "attached": 30,
        "ignored": 1,
    }


def test_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(fd: int, index: int, size: int) -> bytes:
        assert (fd, index, size) == (7, 0, COUNTERS_SIZE * 3)
        return struct.pack(
            "=24Q",
            *(10, 1, 5, 4, 0, 0, 6, 1),
            *(20, 2, 0, 0, 7, 1, 0, 0),
            *(1 << 40, 3, 2, 1, 0, 2, 7, 1),
        )

    monkeypatch.setattr(counters, "possible_cpus", lambda: 3)
    monkeypatch.setattr(bpf, "map_lookup", lookup)
    assert read_counters(7) == Counters((1 << 40) + 30, 6, 7, 5, 7, 3, 13, 2)


def test_what_a_full_map_threw_out_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "map_keys", lambda fd, size: iter([b"12345678"] * 3))
    counted = Counters(followed=20, forgotten=6, judged=9, unjudged=5)
    assert thrown_out(counted, {"tracked": 7}) == {"tracking": 11}
    assert thrown_out(counted, {"tracked": 7, "verdicts": 8}) == {"tracking": 11, "verdicts": 1}


@pytest.mark.parametrize(
    ("text", "cpus"), [("0\n", 1), ("0-1\n", 2), ("0-255\n", 256), ("0-3,8-11\n", 12), ("0,2\n", 3)]
)
def test_possible_cpus(text: str, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert possible_cpus() == cpus
