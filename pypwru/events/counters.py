"""What the handlers counted, summed over CPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Backend, Config
from pypwru.events.record import COUNTERS_SIZE, EVENT_COUNTERS
from pypwru.kernel import bpf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.attach.attached import Attached

_NESTED = ("trace_stack", "trace_map_")
_MARKS, _KNOWN = 7, 1  # of keys of the map `seen`: bpf/seen.h


class Counters(NamedTuple):
    """``struct counters`` of event.h; a test proves the names equal."""

    produced: int = 0
    ring_full: int = 0
    followed: int = 0
    forgotten: int = 0
    judged: int = 0
    unjudged: int = 0
    wanted: int = 0
    unheard: int = 0
    identified: int = 0
    remembered: int = 0
    released: int = 0
    not_sampled: int = 0
    throttled: int = 0
    over_rate: int = 0
    ends_lost: int = 0


def held_back(config: Config, counted: Counters) -> dict[str, int]:
    """Sights that a run was asked not to show, by cause."""
    asked = {
        "not_sampled": (config.samples, counted.not_sampled),
        "over_rate": (config.rate_limit > 0, counted.over_rate),
        "throttled": (config.max_hits > 0, counted.throttled),
    }
    return {cause: count for cause, (is_asked, count) in asked.items() if is_asked}


def forgotten(
    config: Config, backend: Backend, counted: Counters, maps: Mapping[str, int]
) -> dict[str, int]:
    """What was lost of who packets are, by cause: ends, for lack of room on the ring, and packets
    that the kernel dropped from the full map of what was seen.

    Args:
        backend: tracepoints don't tell of all ends, so that old packets are dropped by design.
        maps: as of ``thrown_out``.
    """
    lost = {"ends": counted.ends_lost} if config.follows_ends else {}
    if config.identifies and backend is not Backend.TRACEPOINT:
        keys = bpf.map_keys(maps["seen"], 8)
        there = sum(1 for key in keys if key[0] & _MARKS == _KNOWN)
        lost["identities"] = counted.remembered - counted.released - there
    return lost


def thrown_out(counted: Counters, maps: Mapping[str, int]) -> dict[str, int]:
    """How many packets the kernel dropped from full maps, by cause.

    Args:
        maps: name -> descriptor, to which nobody writes any more.
    """
    causes = {
        "tracking": ("tracked", counted.followed - counted.forgotten),
        "verdicts": ("verdicts", counted.judged - counted.unjudged),
    }
    return {
        cause: left - sum(1 for _ in bpf.map_keys(maps[name], 8))
        for cause, (name, left) in causes.items()
        if name in maps
    }


def lost_by_recursion(missed: Mapping[str, int]) -> dict[str, int]:
    """What recursion cost, by cause.

    Functions without a packet are also called by our own handlers, above all those on maps: what
    the kernel skipped of them is mostly that, and is told apart.

    Args:
        missed: handler -> runs that the kernel skipped.
    """
    nested = sum(count for handler, count in missed.items() if handler.startswith(_NESTED))
    lost = {"recursion": sum(missed.values()) - nested}
    return lost | ({"nested": nested} if nested else {})


def account(
    printed: int,
    packets: int | None,
    counted: Counters,
    held_back: Mapping[str, int],
    lost: Mapping[str, int],
    report: Attached,
) -> dict[str, int]:
    """Where every sight went, for the last line of the log.

    Args:
        printed: lines of events.
        packets: different ones among what was read; None where that isn't known.
        held_back: sights that were not to be shown, by cause.
        lost: what nobody could count by its packet, by cause.
        report: what was traced.
    """
    return {
        "events": printed,
        **({} if packets is None else {"packets": packets}),
        "produced": counted.produced,
        **held_back,
        "lost_ring_full": counted.ring_full,
        **{f"lost_{cause}": number for cause, number in lost.items()},
        "not_shown": counted.produced - sum(held_back.values()) - counted.ring_full - printed,
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
