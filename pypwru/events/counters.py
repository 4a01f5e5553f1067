"""What the handlers counted, summed over CPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pypwru.events.record import COUNTERS_SIZE, EVENT_COUNTERS
from pypwru.kernel import bpf


class Counters(NamedTuple):
    """``struct counters`` of event.h; a test proves the names equal."""

    produced: int
    ring_full: int


def possible_cpus() -> int:
    """How many CPUs a per-CPU map has: those that could ever be plugged in, not those that are."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1 if text else os.cpu_count() or 1


def read_counters(fd: int) -> Counters:
    """The sums of a ``counters`` map."""
    raw = bpf.map_lookup(fd, 0, COUNTERS_SIZE * possible_cpus())
    return Counters(*map(sum, zip(*EVENT_COUNTERS.iter_unpack(raw), strict=True)))
