"""The table of handlers against the C, and against the probes that name them."""

from __future__ import annotations

import re

from pypwru.bpf_sources import MAIN, sources
from pypwru.discovery import auxiliary_probes, skb_lifetime
from pypwru.discovery.handlers import (
    HANDLERS,
    NESTED_HANDLERS,
    PACKET_HANDLERS,
    HandlerKind,
)

BODY = re.compile(r"^int (\w+)\(void \*ctx\)\n\{(.*?)^\}", re.MULTILINE | re.DOTALL)
# What writes an event: see bpf/trace.h, bpf/bpfmap_calls.h.
WRITES = re.compile(r"\b(handle_skb|handle_frame|write_skb_event|handle_map_\w+)\(")


def test_table_has_the_handlers_of_the_c() -> None:
    found = {name: bool(WRITES.search(body)) for name, body in BODY.findall(sources()[MAIN])}
    assert {name: row.writes_event for name, row in HANDLERS.items()} == found


def test_kprobe_variants_are_handlers() -> None:
    of_fentry = {
        row.kprobe_variant for row in HANDLERS.values() if row.kind is HandlerKind.SKB_FUNCTION
    }
    of_kprobes = {name for name, row in HANDLERS.items() if row.kind is HandlerKind.SKB_KPROBE}
    assert of_fentry == of_kprobes
    assert {row.kprobe_variant for row in HANDLERS.values()} == {*of_fentry, ""}


def test_hooks_name_handlers_of_their_kind() -> None:
    lifetime = [*skb_lifetime.LIFETIME_HOOKS.values(), *skb_lifetime.BULK_FREE_HOOKS.values()]
    hooks = {hook.handler for hook in [*lifetime, skb_lifetime.FREE_HOOK]}
    assert hooks == {name for name, row in HANDLERS.items() if row.kind is HandlerKind.LIFETIME}
    operations = auxiliary_probes._MAP_OPERATION_HOOKS.values()
    nested = [*auxiliary_probes._NESTED_CALL_HOOKS, *(hook for row in operations for hook in row)]
    assert {hook.handler for hook in nested} == NESTED_HANDLERS


def test_hits_are_runs_of_packet_handlers() -> None:
    assert sorted(PACKET_HANDLERS) == [
        "probe_skb", "probe_skb_last", "trace_skb", "trace_skb_last",
        "trace_tc", "trace_xdp", "trace_xdp_exit",
    ]  # fmt: skip
