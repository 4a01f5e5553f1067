"""Describe losses and skipped events by cause, from the counters of the log's last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Counter -> what it counts and, if there is one, the cure.
LOSS_TEXTS: Mapping[str, str] = {
    "lost_ring_full": "events found no room in the ring: raise --buffer-size, or trace less",
    "lost_recursion": "hits were skipped, since a handler was running on that CPU",
    "lost_nested": "hits of functions without a packet were skipped inside our own handlers",
    "lost_missed": "hits were skipped by the kernel",
    "lost_tracking": "packets were evicted from the full map of tracked packets: trace less",
    "lost_verdicts": "packets were evicted from the full map of verdicts: trace less",
    "lost_packet_ids": "packets were evicted from the full map of packet IDs, and count again",
    "lost_pending": "events of undecided packets were evicted for lack of room: trace less",
    "lost_free_events": "free events found no room in the ring: raise --buffer-size, or trace less",
    "lost_journeys": "events of packets that --output-journey had no room for: trace less",
    "lost_packets": "packets found no room for their data: raise --buffer-size",
}
# Not missing from statistics.
_NOT_IN_STATISTICS = frozenset(("lost_free_events", "lost_journeys", "lost_packets"))
# Hits before the filter ran: they may be of packets that don't match.
_BEFORE_FILTER = frozenset(("lost_recursion", "lost_nested", "lost_missed"))
SKIPPED_TEXTS: Mapping[str, str] = {
    "not_sampled": "events of packets left out by --sample-rate and --sample-flow",
    "over_rate": "events over --rate-limit",
    "throttled": "events over --max-hits of their function",
    "not_shown": "events filtered out, or after the limit or the stop request",
}


def describe_losses(counters: Mapping[str, int]) -> dict[str, int]:
    """Return losses that make statistics incomplete: description -> number, without zeros.

    Args:
        counters: counters of the log's last line. One without a description is named as it is.
    """
    names = [
        name for name in counters if name.startswith("lost_") and name not in _NOT_IN_STATISTICS
    ]
    return {LOSS_TEXTS.get(name, name): counters[name] for name in names if counters[name]}


def describe_skipped(counters: Mapping[str, int]) -> dict[str, int]:
    """Return events skipped on purpose (sampling, limits, filters): description -> number.

    Args:
        counters: as of ``describe_losses``.
    """
    return {text: counters[name] for name, text in SKIPPED_TEXTS.items() if counters.get(name)}


def loss_warnings(counters: Mapping[str, int]) -> list[str]:
    """Return a sentence for each cause by which a run certainly lost events of matching packets.

    Args:
        counters: as of ``describe_losses``.
    """
    return [
        f"{counters[name]} {text}"
        for name, text in LOSS_TEXTS.items()
        if counters.get(name) and name not in _BEFORE_FILTER
    ]
