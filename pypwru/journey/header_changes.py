"""Changes of a packet between two of its events: NAT or tunnel, device, mark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pypwru.names.event_names import NameResolver
from pypwru.output import tuples
from pypwru.output.columns import interface
from pypwru.wire.fields import FlowFields

if TYPE_CHECKING:
    from pypwru.journey.decode import Step

# Bytes. A tunnel adds at least an IP and a UDP header; a link-layer header is smaller.
_MIN_TUNNEL_OVERHEAD = 28

ChangeFormatter = Callable[[FlowFields, FlowFields, NameResolver, bool], str]
"""(before, now, names, whether to include TCP flags) to the text of a change; empty for none."""


def device(flow: FlowFields, names: NameResolver) -> str:
    """Return the device of a packet as ``eth0:2``; empty without a device."""
    return interface(flow, names) if flow.ifindex else ""


def _device_change(before: FlowFields, now: FlowFields, names: NameResolver, flags: bool) -> str:
    if not now.ifindex or (before.netns, before.ifindex) == (now.netns, now.ifindex):
        return ""
    old = device(before, names)
    netns_note = f" (netns {now.netns})" if now.netns != before.netns else ""
    return f"dev {old + ' => ' if old else ''}{device(now, names)}{netns_note}"


def _tuple_change(before: FlowFields, now: FlowFields, names: NameResolver, flags: bool) -> str:
    if not (before.l3 and now.l3) or _addresses_and_ports(before, now) == _addresses_and_ports(
        now, before
    ):
        return ""
    is_same = (before.l3, before.l4) == (now.l3, now.l4) and abs(
        now.len - before.len
    ) < _MIN_TUNNEL_OVERHEAD
    old, new = (tuples.text(tuples.tuple_of(flow), flags) for flow in (before, now))
    return f"{'NAT' if is_same else 'tuple'} {old} => {new}"


def _addresses_and_ports(flow: FlowFields, other: FlowFields) -> tuple[object, ...]:
    """Return the addresses, and the ports if both have them: later fragments have none."""
    ports = (flow.sport, flow.dport) if other.sport or other.dport else ()
    return (flow.l3, flow.l4, flow.saddr, flow.daddr, *(ports if any(ports) else ()))


def _mark_change(before: FlowFields, now: FlowFields, names: NameResolver, flags: bool) -> str:
    return f"mark {before.mark:#x} => {now.mark:#x}" if before.mark != now.mark else ""


_HEADER_CHANGES: tuple[ChangeFormatter, ...] = (_tuple_change, _device_change, _mark_change)


def describe_changes(
    steps: Sequence[Step], names: NameResolver, flags: bool
) -> Iterator[list[str]]:
    """Yield, for each step, the texts of the changes since the step before.

    Args:
        steps: of one packet; not empty.
        names: the name resolver.
        flags: include TCP flags in tuples.
    """
    flow = steps[0].flow
    for step in steps:
        found = (change(flow, step.flow, names, flags) for change in _HEADER_CHANGES)
        yield [text for text in found if text]
        flow = _carry_forward(flow, step.flow)


def _carry_forward(before: FlowFields, now: FlowFields) -> FlowFields:
    """Copy device and headers that ``now`` lacks from the event before."""
    if not now.ifindex:
        now = now._replace(
            ifindex=before.ifindex,
            ifname=before.ifname,
            netns=before.netns,
            netns_cookie=before.netns_cookie,
        )
    if now.l3:
        return now
    headers = {name: getattr(before, name) for name in ("l3", "l4", "saddr", "daddr")}
    return now._replace(**headers, sport=before.sport, dport=before.dport, len=before.len)
