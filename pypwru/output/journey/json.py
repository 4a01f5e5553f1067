"""A journey as JSON, one object per line; its schema is data/journey.schema.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.output import nft, tuples
from pypwru.output.columns import columns, process
from pypwru.output.journey.changes import changes, device
from pypwru.output.journey.ends import DELIVERED, DROPPED, End
from pypwru.output.journey.steps import Step, Steps
from pypwru.output.json import Json as Objects
from pypwru.output.json import encode
from pypwru.output.printer import Printer
from pypwru.resolve.event_names import Names, name_and_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices


class Json:
    """The JSON format of a journey.

    Args:
        config: of the run.
        names: the name resolver.
    """

    def __init__(self, config: Config, names: Names) -> None:
        self._names = names
        self._steps = Steps(config, names)
        self._made: list[bytes] = []
        self._printer = Printer(Objects(columns(config)), names, self._made.extend, config)
        self._flags = config.output_tcp_flags

    def written(self, sights: Sequence[Slices], steps: Sequence[Step], end: End) -> str:
        """Render a journey as an object and a line break.

        Args:
            sights: events of one packet, in their order; at least one.
            steps: the same events, decoded.
            end: the outcome.
        """
        first, last = steps[0], steps[-1]
        ends = next((one.flow for one in steps if one.flow.l3), None)
        members: dict[str, object] = {
            "packet_id": first.identity or None,
            "skb": hex(first.packet.skb),
            "tuple": tuples.members(tuples.tuple_of(ends), self._flags) if ends else None,
            "netns": next((one.flow.netns for one in steps if one.flow.netns), None),
            "start": self._names.clock.wall(first.ktime),
            "start_ns": first.ktime,
            "duration_ns": last.ktime - first.ktime,
            "end": self._end(end),
        }
        texts = [
            f"{encode(key)}:{encode(value)}" for key, value in members.items() if value is not None
        ]
        objects = ",".join(self._objects(sights, steps))
        return "{" + ",".join([*texts, f'"sights":[{objects}]']) + "}\n"

    def _objects(self, sights: Sequence[Slices], steps: Sequence[Step]) -> Iterator[str]:
        """Yield the JSON of each event, with the members of journeys appended."""
        self._made.clear()
        self._printer.show(sights)
        start = steps[0].ktime
        changed = changes(steps, self._names, self._flags)
        for made, step, words in zip(self._made, steps, changed, strict=True):
            more: dict[str, object] = {"offset_ns": step.ktime - start}
            more |= {"changes": words} if words else {}
            yield f"{made.rstrip()[:-1].decode()},{encode(more)[1:]}"

    def _end(self, end: End) -> Mapping[str, object]:
        (step,) = self._steps.of([end.record])
        found = {"kind": end.kind, "func": name_and_reason(step.function, self._names)[0]}
        more = _MORE.get(end.kind, _nothing)(step, self._names)
        return found | {key: value for key, value in more.items() if value}


def _nothing(step: Step, names: Names) -> Mapping[str, object]:
    return {}


def _dropped(step: Step, names: Names) -> Mapping[str, object]:
    dropped = step.said is not None and (step.said.verdict == "drop" or step.said.is_another)
    return {
        "reason": name_and_reason(step.function, names)[1],
        "location": names.location(step.caller) if step.caller else "",
        "nft": nft.members(step.said) if dropped else None,
    }


_MORE: Mapping[str, Callable[[Step, Names], Mapping[str, object]]] = {
    DROPPED: _dropped,
    DELIVERED: lambda step, names: {"process": process(step.packet, names)},
    "sent": lambda step, names: {"iface": device(step.flow, names)},
}
