"""What is missing from a trace, by cause, in words: from the account that ends the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Key of the account -> what it means, and where there is one the cure.
LOST: Mapping[str, str] = {
    "lost_ring_full": "sights found no room in the ring: raise --buffer-size, or trace less",
    "lost_recursion": "hits were skipped, since a handler was running on that CPU",
    "lost_nested": "hits of functions without a packet were skipped inside our own handlers",
    "lost_missed": "hits were skipped by the kernel",
    "lost_tracking": "packets fell out of the full map of tracked ones",
    "lost_verdicts": "packets fell out of the full map of verdicts",
    "lost_identities": "packets fell out of the full map of identities, and count again",
    "lost_held": "sights of undecided packets were thrown away, for lack of room",
}
# Other outputs miss these.
_OTHERS = frozenset(("lost_ends", "lost_journeys", "lost_packets"))
ASKED: Mapping[str, str] = {
    "not_sampled": "sights of packets that --sample-rate and --sample-flow did not choose",
    "over_rate": "sights over --rate-limit",
    "throttled": "sights over --max-hits of their function",
    "not_shown": "sights that were not asked for, or came when the end was near",
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
