"""Flags in the flow part: of an event that dropped its packet, which is the part's last byte and
padding on the ring; and of one that is of no packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.record import EVENT

if TYPE_CHECKING:
    from pypwru.events.record import Slices

_SET = b"\1"
FLAG_SIZE = len(_SET)
"""Bytes of the flow part, its last, that hold the flag."""
_MESSAGE = EVENT["is_message"].offset - EVENT["netns"].offset


def flag_drop_event(record: Slices) -> Slices:
    """``record`` with the flag set."""
    packet, func, ktime, flow, tail = record
    return packet, func, ktime, flow[:-FLAG_SIZE] + _SET, tail


def is_drop_event(flow: bytes) -> bool:
    """Whether the flag is set in this flow part, or in its last bytes."""
    return flow.endswith(_SET)


def is_message(flow: bytes) -> bool:
    """Whether this flow part is of a message of a Unix, netlink or PF_KEY socket, and no packet."""
    return bool(flow[_MESSAGE])
