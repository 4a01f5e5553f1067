"""A journey as JSON, one object per line; its schema is data/journey.schema.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.journey.decode import Step, StepDecoder
from pypwru.journey.header_changes import describe_changes, device
from pypwru.journey.outcome import DELIVERED, DROPPED, JourneyOutcome
from pypwru.names.event_names import NameResolver, name_and_reason
from pypwru.nft import render as nft_render
from pypwru.output import tuples
from pypwru.output.columns import Column, process
from pypwru.output.json import JsonFormatter as Objects
from pypwru.output.json import encode
from pypwru.output.printer import Printer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord


class JourneyJson:
    """The JSON format of a journey.

    Args:
        layout: the layout of records, as of StepDecoder.
        columns: of an event, in output order.
        names: the name resolver.
        has_tcp_flags: whether ``tuple`` has the TCP flags, and their changes are described.
    """

    def __init__(
        self,
        layout: RecordLayout,
        columns: Sequence[Column],
        names: NameResolver,
        *,
        has_tcp_flags: bool,
    ) -> None:
        self._names = names
        self._steps = StepDecoder(layout, names)
        self._rendered: list[bytes] = []
        self._printer = Printer(Objects(columns), names, self._rendered.extend, layout)
        self._flags = has_tcp_flags

    def render(
        self, records: Sequence[RawRecord], steps: Sequence[Step], outcome: JourneyOutcome
    ) -> str:
        """Render a journey as an object and a line break.

        Args:
            records: events of one packet, in their order; at least one.
            steps: the same events, decoded.
            outcome: the outcome.
        """
        first, last = steps[0], steps[-1]
        flow = next((one.flow for one in steps if one.flow.l3), None)
        members: dict[str, object] = {
            "packet_id": first.packet_id,
            "skb": hex(first.packet.skb),
            "tuple": tuples.members(tuples.tuple_of(flow), self._flags) if flow else None,
            "netns": next((one.flow.netns for one in steps if one.flow.netns), None),
            "start": self._names.clock.local_time(first.ktime),
            "start_ns": first.ktime,
            "duration_ns": last.ktime - first.ktime,
            "end": self._outcome_members(outcome),
        }
        texts = [
            f"{encode(key)}:{encode(value)}" for key, value in members.items() if value is not None
        ]
        objects = ",".join(self._event_objects(records, steps))
        return "{" + ",".join([*texts, f'"events":[{objects}]']) + "}\n"

    def _event_objects(self, records: Sequence[RawRecord], steps: Sequence[Step]) -> Iterator[str]:
        """Yield the JSON of each event, with the members of journeys appended."""
        self._rendered.clear()
        self._printer.show(records)
        start = steps[0].ktime
        changes_by_step = describe_changes(steps, self._names, self._flags)
        for rendered, step, change_texts in zip(
            self._rendered, steps, changes_by_step, strict=True
        ):
            extra: dict[str, object] = {"offset_ns": step.ktime - start}
            extra |= {"changes": change_texts} if change_texts else {}
            yield f"{rendered.rstrip()[:-1].decode()},{encode(extra)[1:]}"

    def _outcome_members(self, outcome: JourneyOutcome) -> Mapping[str, object]:
        (step,) = self._steps.decode([outcome.record])
        found = {"kind": outcome.kind, "func": name_and_reason(step.function, self._names)[0]}
        extra = _MEMBERS_BY_OUTCOME.get(outcome.kind, _no_members)(step, self._names)
        return found | {key: value for key, value in extra.items() if value}


def _no_members(step: Step, names: NameResolver) -> Mapping[str, object]:
    return {}


def _drop_members(step: Step, names: NameResolver) -> Mapping[str, object]:
    is_nft_drop = step.nft is not None and (step.nft.verdict == "drop" or step.nft.is_other_hook)
    return {
        "reason": name_and_reason(step.function, names)[1],
        "location": names.location(step.caller) if step.caller else "",
        "nft": nft_render.members(step.nft) if is_nft_drop else None,
    }


_MEMBERS_BY_OUTCOME: Mapping[str, Callable[[Step, NameResolver], Mapping[str, object]]] = {
    DROPPED: _drop_members,
    DELIVERED: lambda step, names: {"process": process(step.packet, names)},
    "sent": lambda step, names: {"iface": device(step.flow, names)},
}
