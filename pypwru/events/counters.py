"""What the handlers counted, summed over CPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pypwru.attach.attached import Attached
from pypwru.events.record import COUNTERS_SIZE, EVENT_COUNTERS
from pypwru.kernel import bpf


class Counters(NamedTuple):
    """``struct counters`` of event.h; a test proves the names equal."""

    produced: int
    ring_full: int
    followed: int
    forgotten: int


def account(
    printed: int, packets: int, counted: Counters, misses: int, report: Attached
) -> dict[str, int]:
    """Where every sight went, for the last line of the log.

    Args:
        printed: lines of events.
        packets: different ones among what was read.
        misses: runs that the kernel skipped, which nobody could count by their packet.
        report: what was traced.
    """
    return {
        "events": printed,
        "packets": packets,
        "produced": counted.produced,
        "lost_ring_full": counted.ring_full,
        "lost_recursion": misses,
        "not_shown": counted.produced - counted.ring_full - printed,
        "attached": report.functions,
        "ignored": len(report.ignored),
    }


def possible_cpus() -> int:
    """How many CPUs a per-CPU map has: those that could ever be plugged in, not those that are."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1 if text else os.cpu_count() or 1


def read_counters(fd: int) -> Counters:
    """The sums of a ``counters`` map."""
    raw = bpf.map_lookup(fd, 0, COUNTERS_SIZE * possible_cpus())
    return Counters(*map(sum, zip(*EVENT_COUNTERS.iter_unpack(raw), strict=True)))
