"""The counters of the handlers, summed over all CPUs, and the accounts that are made of them."""

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
_MARKS, _KNOWN = 7, 1  # mask and value of the tags in keys of the map `seen`: bpf/seen.h


class Counters(NamedTuple):
    """``struct counters`` of bpf/event.h, which documents them; a test compares the names."""

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
    """Return the number of events that sampling and limits have suppressed, by cause."""
    asked = {
        "not_sampled": (config.samples, counted.not_sampled),
        "over_rate": (config.rate_limit > 0, counted.over_rate),
        "throttled": (config.max_hits > 0, counted.throttled),
    }
    return {cause: count for cause, (is_asked, count) in asked.items() if is_asked}


def forgotten(
    config: Config, backend: Backend, counted: Counters, maps: Mapping[str, int]
) -> dict[str, int]:
    """Return what was lost of the identity of packets, by cause.

    ``ends`` are free records for which the ring had no room, ``identities`` packet ids that the
    kernel evicted from the full map ``seen``.

    Args:
        config: of the run.
        backend: of the functions. With tracepoints, not all frees are seen, and evictions of old
            packets are no loss.
        counted: the counters at the end of the run.
        maps: name -> descriptor. No handler may write to ``seen`` any more.

    Raises:
        OSError: a system call on a map failed.
    """
    lost = {"ends": counted.ends_lost} if config.follows_ends else {}
    if config.identifies and backend is not Backend.TRACEPOINT:
        keys = bpf.map_keys(maps["seen"], 8)
        there = sum(1 for key in keys if key[0] & _MARKS == _KNOWN)
        lost["identities"] = counted.remembered - counted.released - there
    return lost


def thrown_out(counted: Counters, maps: Mapping[str, int]) -> dict[str, int]:
    """Return how many packets the kernel evicted from full LRU maps, by cause.

    These are the insertions less the removals and what is still in the map.

    Args:
        counted: the counters at the end of the run.
        maps: name -> descriptor. No handler may write to them any more.

    Raises:
        OSError: a system call on a map failed.
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
    """Return the number of runs that the kernel skipped since a program ran already, by cause.

    Handlers of functions without a packet, above all of those on BPF maps, are triggered by our own
    handlers, too: most of their skipped runs come from that, and are counted as ``nested``.

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
    """Account for every event, for the last line of the log.

    Args:
        printed: number of events that were printed.
        packets: number of distinct packets among the events that were read; None if unknown.
        counted: the counters at the end of the run.
        held_back: events that sampling and limits have suppressed, by cause.
        lost: losses that are not part of ``counted.ring_full``, by cause.
        report: the attached targets.

    Returns:
        Key of the log line -> value, in the order of the line.
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
    """Return the number of CPUs of a per-CPU map: all that can be plugged in, not those present."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1 if text else os.cpu_count() or 1


def read_counters(fd: int) -> Counters:
    """Return the sums over all CPUs of the map ``counters``.

    Args:
        fd: descriptor of the map.

    Raises:
        OSError: the system call failed.
    """
    raw = bpf.map_lookup(fd, 0, COUNTERS_SIZE * possible_cpus())
    return Counters(*map(sum, zip(*EVENT_COUNTERS.iter_unpack(raw), strict=True)))
