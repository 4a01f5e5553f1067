"""Words for drop reasons."""

from __future__ import annotations

from collections.abc import Mapping

ENUM = "skb_drop_reason"  # of include/net/dropreason-core.h; since Linux 5.17


def reasons_of(enum: Mapping[str, int]) -> dict[int, str]:
    """Value to word of ``enum skb_drop_reason``.

    Args:
        enum: name to value, from the kernel's BTF, in its order; empty for a kernel without it. It
            begins with SKB_NOT_DROPPED_YET and SKB_CONSUMED, which are no drops, and ends with
            bounds; a bound never hides a reason of the same value.
    """
    words: dict[int, str] = {}
    for name, value in enum.items():
        words.setdefault(value, name)
    return words
