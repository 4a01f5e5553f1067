"""Changes of a packet between two of its events: NAT or tunnel, device, mark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pypwru.output import tuples
from pypwru.output.columns import interface
from pypwru.output.parts import Flow
from pypwru.resolve.event_names import Names

if TYPE_CHECKING:
    from pypwru.output.journey.steps import Step

# Bytes. A tunnel adds at least an IP and a UDP header; a link-layer header is smaller.
_TUNNEL = 28

Change = Callable[[Flow, Flow, Names, bool], str]
"""(before, now, names, whether to include TCP flags) to the text of a change; empty for none."""


def device(flow: Flow, names: Names) -> str:
    """Return the device of a packet as ``eth0:2``; empty without a device."""
    return interface(flow, names) if flow.ifindex else ""


def _devices(before: Flow, now: Flow, names: Names, flags: bool) -> str:
    if not now.ifindex or (before.netns, before.ifindex) == (now.netns, now.ifindex):
        return ""
    old = device(before, names)
    elsewhere = f" (netns {now.netns})" if now.netns != before.netns else ""
    return f"dev {old + ' => ' if old else ''}{device(now, names)}{elsewhere}"


def _tuples(before: Flow, now: Flow, names: Names, flags: bool) -> str:
    if not (before.l3 and now.l3) or _ends(before, now) == _ends(now, before):
        return ""
    is_same = (before.l3, before.l4) == (now.l3, now.l4) and abs(now.len - before.len) < _TUNNEL
    old, new = (tuples.text(tuples.tuple_of(flow), flags) for flow in (before, now))
    return f"{'NAT' if is_same else 'tuple'} {old} => {new}"


def _ends(flow: Flow, other: Flow) -> tuple[object, ...]:
    """Return the addresses, and the ports if both have them: later fragments have none."""
    ports = (flow.sport, flow.dport) if other.sport or other.dport else ()
    return (flow.l3, flow.l4, flow.saddr, flow.daddr, *(ports if any(ports) else ()))


def _marks(before: Flow, now: Flow, names: Names, flags: bool) -> str:
    return f"mark {before.mark:#x} => {now.mark:#x}" if before.mark != now.mark else ""


_CHANGES: tuple[Change, ...] = (_tuples, _devices, _marks)


def changes(steps: Sequence[Step], names: Names, flags: bool) -> Iterator[list[str]]:
    """Yield, for each step, the texts of the changes since the step before.

    Args:
        steps: of one packet; not empty.
        names: the name resolver.
        flags: include TCP flags in tuples.
    """
    flow = steps[0].flow
    for step in steps:
        found = (change(flow, step.flow, names, flags) for change in _CHANGES)
        yield [words for words in found if words]
        flow = _known(flow, step.flow)


def _known(before: Flow, now: Flow) -> Flow:
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
    ends = {name: getattr(before, name) for name in ("l3", "l4", "saddr", "daddr")}
    return now._replace(**ends, sport=before.sport, dport=before.dport, len=before.len)
