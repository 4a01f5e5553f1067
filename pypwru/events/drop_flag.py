"""The flag of an event that dropped its packet: the flow part's last byte, padding on the ring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypwru.events.record import Slices

_SET = b"\1"
FLAG_SIZE = len(_SET)
"""Bytes of the flow part, its last, that hold the flag."""


def flag_drop_event(record: Slices) -> Slices:
    """``record`` with the flag set."""
    packet, func, ktime, flow, tail = record
    return packet, func, ktime, flow[:-FLAG_SIZE] + _SET, tail


def is_drop_event(flow: bytes) -> bool:
    """Whether the flag is set in this flow part, or in its last bytes."""
    return flow.endswith(_SET)
