"""Flags in the flow part of a record.

The last byte, which is padding on the ring, marks the event that dropped its packet. The bytes
``is_message`` and ``is_shared``, which the handlers set, mark an event that frees no packet, even
if its function drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.wire.record import EVENT_MEMBERS

if TYPE_CHECKING:
    from pypwru.wire.record import RawRecord

_DROP_FLAG = b"\1"
FLAG_SIZE = len(_DROP_FLAG)
"""Size of the flag in bytes, at the end of the flow part."""
_NO_FREE_FLAGS = slice(
    EVENT_MEMBERS["is_message"].offset - EVENT_MEMBERS["netns"].offset,
    EVENT_MEMBERS["is_shared"].offset
    - EVENT_MEMBERS["netns"].offset
    + EVENT_MEMBERS["is_shared"].size,
)


def flag_drop_event(record: RawRecord) -> RawRecord:
    """Return a copy of ``record`` that is marked as the event that dropped its packet."""
    packet, func, ktime, flow, tail = record
    return packet, func, ktime, flow[:-FLAG_SIZE] + _DROP_FLAG, tail


def is_drop_event(flow: bytes) -> bool:
    """Return whether the event is marked as the one that dropped its packet.

    Args:
        flow: the flow part of a record, or at least its last ``FLAG_SIZE`` bytes.
    """
    return flow.endswith(_DROP_FLAG)


def frees_no_packet(flow: bytes) -> bool:
    """Return whether a drop of this sk_buff frees no packet.

    That is the case for a message of a Unix, netlink or PF_KEY socket, and for an sk_buff to which
    others hold a reference, too.

    Args:
        flow: the flow part of a record.
    """
    return any(flow[_NO_FREE_FLAGS])
