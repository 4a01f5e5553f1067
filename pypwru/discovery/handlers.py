"""The handlers of bpf/trace.bpf.c, and what the rest of the code has to know of each.

Those of nftables and iptables are in ``nft/verdict_sources.py``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACE_SKB, TRACE_SKB_LAST = "trace_skb", "trace_skb_last"
"""Handlers of targets with an sk_buff argument; the second where its event is the last of it."""


class HandlerKind(Enum):
    """What a handler is attached to, by which backend."""

    SKB_FUNCTION = "functions with an sk_buff, and tracepoints, by the backend of the run"
    SKB_KPROBE = "functions with an sk_buff that fentry can't attach to, by kprobes"
    PROGRAM = "BPF programs, by fentry and fexit"
    NESTED = "functions without a packet that are called while one is handled, by kprobes"
    LIFETIME = "functions that allocate, copy and free sk_buffs, by kprobes"


class HandlerRow(NamedTuple):
    """What the code has to know of a handler.

    Args:
        kind: what it is attached to.
        writes_event: whether it writes events, or only keeps state for those that do.
        kprobe_variant: name of the handler that does the same by kprobes, if fentry can't attach
            to a function; empty if there is none.
    """

    kind: HandlerKind
    writes_event: bool = True
    kprobe_variant: str = ""


HANDLERS: Mapping[str, HandlerRow] = {
    TRACE_SKB: HandlerRow(HandlerKind.SKB_FUNCTION, kprobe_variant="probe_skb"),
    TRACE_SKB_LAST: HandlerRow(HandlerKind.SKB_FUNCTION, kprobe_variant="probe_skb_last"),
    "trace_tc": HandlerRow(HandlerKind.PROGRAM),
    "trace_xdp": HandlerRow(HandlerKind.PROGRAM),
    "trace_xdp_exit": HandlerRow(HandlerKind.PROGRAM, writes_event=False),
    "probe_skb": HandlerRow(HandlerKind.SKB_KPROBE),
    "probe_skb_last": HandlerRow(HandlerKind.SKB_KPROBE),
    "trace_nested_call": HandlerRow(HandlerKind.NESTED),
    "trace_map_update": HandlerRow(HandlerKind.NESTED),
    "trace_map_delete": HandlerRow(HandlerKind.NESTED),
    "trace_map_lookup": HandlerRow(HandlerKind.NESTED, writes_event=False),
    "trace_map_lookup_exit": HandlerRow(HandlerKind.NESTED),
    "hook_skb_free": HandlerRow(HandlerKind.LIFETIME, writes_event=False),
    "hook_skb_free_bulk": HandlerRow(HandlerKind.LIFETIME, writes_event=False),
    "hook_skb_build": HandlerRow(HandlerKind.LIFETIME, writes_event=False),
    "hook_skb_alloc_exit": HandlerRow(HandlerKind.LIFETIME, writes_event=False),
    "hook_skb_copy": HandlerRow(HandlerKind.LIFETIME, writes_event=False),
}
"""Handler name -> what to know of it."""

_PACKET_KINDS = (HandlerKind.SKB_FUNCTION, HandlerKind.SKB_KPROBE, HandlerKind.PROGRAM)
PACKET_HANDLERS = frozenset(name for name, row in HANDLERS.items() if row.kind in _PACKET_KINDS)
"""Handlers that get a packet, which matches or not: their runs are hits."""
NESTED_HANDLERS = frozenset(
    name for name, row in HANDLERS.items() if row.kind is HandlerKind.NESTED
)
