"""The counters of the handlers, summed over all CPUs, and the accounts that are made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Backend
from pypwru.discovery.handlers import NESTED_HANDLERS
from pypwru.kernel import bpf
from pypwru.wire.record import COUNTERS_SIZE, COUNTERS_STRUCT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.attach.report import AttachReport
    from pypwru.needs import Needs

_TAG_MASK, _SEEN_ID = (
    7,
    1,
)  # mask and value of the tags in keys of the map `seen`: bpf/skb/packet_ids.h


class Counters(NamedTuple):
    """``struct counters`` of bpf/event.h, which documents them; a test compares the names."""

    produced: int = 0
    ring_full: int = 0
    tracked_added: int = 0
    tracked_removed: int = 0
    verdict_added: int = 0
    verdict_removed: int = 0
    capture_requested: int = 0
    capture_no_room: int = 0
    id_assigned: int = 0
    id_inserted: int = 0
    id_removed: int = 0
    not_sampled: int = 0
    throttled: int = 0
    over_rate: int = 0
    free_records_lost: int = 0


def count_suppressed(counters: Counters, needs: Needs) -> dict[str, int]:
    """Return the number of events that sampling and limits have suppressed, by cause.

    Args:
        counters: the counters so far.
        needs: of the run.

    Returns:
        Cause -> number of events; without the causes that the run doesn't have.
    """
    counts = {
        "not_sampled": (needs.samples, counters.not_sampled),
        "over_rate": (needs.rate_limit, counters.over_rate),
        "throttled": (needs.hit_limit, counters.throttled),
    }
    return {cause: count for cause, (is_enabled, count) in counts.items() if is_enabled}


def count_lost_ids(
    backend: Backend, counters: Counters, maps: Mapping[str, int], needs: Needs
) -> dict[str, int]:
    """Return what was lost of the identity of packets, by cause.

    ``free_events`` are free records for which the ring had no room, ``packet_ids`` packet ids that
    the kernel evicted from the full map ``seen``.

    Args:
        backend: of the functions. With tracepoints, not all frees are seen, and evictions of old
            packets are no loss.
        counters: the counters at the end of the run.
        maps: name -> descriptor. No handler may write to ``seen`` any more.
        needs: of the run.

    Raises:
        OSError: a system call on a map failed.
    """
    lost = {"free_events": counters.free_records_lost} if needs.free_events else {}
    if needs.packet_ids and backend is not Backend.TRACEPOINT:
        keys = bpf.map_keys(maps["seen"], 8)
        present = sum(1 for key in keys if key[0] & _TAG_MASK == _SEEN_ID)
        lost["packet_ids"] = counters.id_inserted - counters.id_removed - present
    return lost


def count_evicted(counters: Counters, maps: Mapping[str, int]) -> dict[str, int]:
    """Return how many packets the kernel evicted from full LRU maps, by cause.

    These are the insertions less the removals and what is still in the map.

    Args:
        counters: the counters at the end of the run.
        maps: name -> descriptor. No handler may write to them any more.

    Raises:
        OSError: a system call on a map failed.
    """
    causes = {
        "tracking": ("tracked", counters.tracked_added - counters.tracked_removed),
        "verdicts": ("verdicts", counters.verdict_added - counters.verdict_removed),
    }
    return {
        cause: remaining - sum(1 for _ in bpf.map_keys(maps[name], 8))
        for cause, (name, remaining) in causes.items()
        if name in maps
    }


def count_recursion_misses(misses: Mapping[str, int]) -> dict[str, int]:
    """Return the number of runs that the kernel skipped since a program ran already, by cause.

    Handlers of functions without a packet, above all of those on BPF maps, are triggered by our own
    handlers, too: most of their skipped runs come from that, and are counted as ``nested``.

    Args:
        misses: handler -> runs that the kernel skipped.
    """
    nested = sum(count for handler, count in misses.items() if handler in NESTED_HANDLERS)
    lost = {"recursion": sum(misses.values()) - nested}
    return lost | ({"nested": nested} if nested else {})


def summarize(
    printed: int,
    packets: int | None,
    counters: Counters,
    suppressed: Mapping[str, int],
    lost: Mapping[str, int],
    report: AttachReport,
) -> dict[str, int]:
    """Account for every event, for the last line of the log.

    Args:
        printed: number of events that were printed.
        packets: number of distinct packets among the events that were read; None if unknown.
        counters: the counters at the end of the run.
        suppressed: events that sampling and limits have suppressed, by cause.
        lost: losses that are not part of ``counted.ring_full``, by cause.
        report: the attached targets.

    Returns:
        Key of the log line -> value, in the order of the line.
    """
    return {
        "events": printed,
        **({} if packets is None else {"packets": packets}),
        "produced": counters.produced,
        **suppressed,
        "lost_ring_full": counters.ring_full,
        **{f"lost_{cause}": number for cause, number in lost.items()},
        "not_shown": counters.produced - sum(suppressed.values()) - counters.ring_full - printed,
        "attached": report.target_count,
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
    return Counters(*map(sum, zip(*COUNTERS_STRUCT.iter_unpack(raw), strict=True)))
