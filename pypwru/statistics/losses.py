"""What is missing from a trace, by cause, in words: from the account that ends the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Key of the account -> what it means, and where there is one the cure.
LOST: Mapping[str, str] = {
    "lost_ring_full": "events found no room in the ring: raise --buffer-size, or trace less",
    "lost_recursion": "hits were skipped, since a handler was running on that CPU",
    "lost_nested": "hits of functions without a packet were skipped inside our own handlers",
    "lost_missed": "hits were skipped by the kernel",
    "lost_tracking": "packets fell out of the full map of tracked ones: trace less",
    "lost_verdicts": "packets fell out of the full map of verdicts: trace less",
    "lost_identities": "packets fell out of the full map of identities, and count again",
    "lost_held": "events of undecided packets were thrown away, for lack of room: trace less",
    "lost_ends": "ends of packets found no room in the ring: raise --buffer-size, or trace less",
    "lost_journeys": "events of packets that --output-journey had no room for: trace less",
    "lost_packets": "packets found no room for their bytes: raise --buffer-size",
}
# Statistics don't miss these.
_OTHERS = frozenset(("lost_ends", "lost_journeys", "lost_packets"))
# Nobody knows whether these were of matching packets.
_UNSURE = frozenset(("lost_recursion", "lost_nested", "lost_missed"))
ASKED: Mapping[str, str] = {
    "not_sampled": "events of packets that --sample-rate and --sample-flow did not choose",
    "over_rate": "events over --rate-limit",
    "throttled": "events over --max-hits of their function",
    "not_shown": "events that were not asked for, or came when the end was near",
}


def lost(account: Mapping[str, int]) -> dict[str, int]:
    """What statistics miss though nobody wanted it: words to number, without what took nothing.

    A cause without words of its own is called what it is in the account.
    """
    names = [name for name in account if name.startswith("lost_") and name not in _OTHERS]
    return {LOST.get(name, name): account[name] for name in names if account[name]}


def asked_for(account: Mapping[str, int]) -> dict[str, int]:
    """What was not wanted, in the same form."""
    return {words: account[name] for name, words in ASKED.items() if account.get(name)}


def warnings(account: Mapping[str, int]) -> list[str]:
    """What a run surely lost, a sentence for each cause."""
    return [
        f"{account[name]} {words}"
        for name, words in LOST.items()
        if account.get(name) and name not in _UNSURE
    ]
