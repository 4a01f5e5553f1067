"""Flags in the flow part: of an event that dropped its packet, which is the part's last byte and
padding on the ring; and of one that ends no packet, whatever it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.record import EVENT

if TYPE_CHECKING:
    from pypwru.events.record import Slices

_SET = b"\1"
FLAG_SIZE = len(_SET)
"""Bytes of the flow part, its last, that hold the flag."""
_ENDS_NOTHING = slice(
    EVENT["is_message"].offset - EVENT["netns"].offset,
    EVENT["is_shared"].offset - EVENT["netns"].offset + EVENT["is_shared"].size,
)


def flag_drop_event(record: Slices) -> Slices:
    """``record`` with the flag set."""
    packet, func, ktime, flow, tail = record
    return packet, func, ktime, flow[:-FLAG_SIZE] + _SET, tail


def is_drop_event(flow: bytes) -> bool:
    """Whether the flag is set in this flow part, or in its last bytes."""
    return flow.endswith(_SET)


def ends_nothing(flow: bytes) -> bool:
    """Whether a function that drops what this flow part is of ends no packet: it is a message of a
    Unix, netlink or PF_KEY socket, or others hold a reference to it, too.
    """
    return any(flow[_ENDS_NOTHING])
