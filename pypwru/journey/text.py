"""A journey as text.

A header, a line per event with the time since the one before, lines for changes of the packet, and
the outcome.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pypwru.config import NftOutput
from pypwru.escaping import escape_unprintable
from pypwru.journey.decode import Step, StepDecoder
from pypwru.journey.header_changes import describe_changes, device
from pypwru.journey.outcome import DELIVERED, DROPPED, UNDER_WAY, JourneyOutcome
from pypwru.names.event_names import NameResolver, name_and_reason
from pypwru.nft import render as nft_render
from pypwru.output import tuples
from pypwru.output.columns import Column, process_path
from pypwru.output.fields import FIELDS
from pypwru.output.printer import Printer
from pypwru.output.text import TextFormatter as Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.wire.fields import PacketFields
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_FUNCTION_WIDTH = 46  # characters
_TIME_WIDTH = 13
_CONTINUATION = "\n" + " " * (2 + _TIME_WIDTH)
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us"))


def format_interval(nanoseconds: int) -> str:
    """Format an interval with three significant digits, ``84.1 us``; below 1 us in whole ns."""
    for unit, symbol in _UNITS:
        if nanoseconds >= 0.9995 * unit:  # 999.6 us round to 1.00 ms
            number = nanoseconds / unit
            digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
            return f"{number:.{digits}f} {symbol}"
    return f"{nanoseconds} ns"


class JourneyText:
    """The text format of a journey.

    Args:
        layout: the layout of records, as of StepDecoder.
        columns: the columns of the run; those with ``in_journey_lines`` are appended to lines.
        names: the name resolver.
        has_tcp_flags: whether the header has the TCP flags, and their changes are described.
        nft_output: what is printed of an nft event.
    """

    def __init__(
        self,
        layout: RecordLayout,
        columns: Sequence[Column],
        names: NameResolver,
        *,
        has_tcp_flags: bool,
        nft_output: NftOutput,
    ) -> None:
        self._names = names = names._replace(escape=escape_unprintable)
        self._steps = StepDecoder(layout, names)
        self._flags = has_tcp_flags
        self._nft = nft_output
        self._extra_columns = _extra_columns_renderer(layout, columns, names)

    def render(
        self, records: Sequence[RawRecord], steps: Sequence[Step], outcome: JourneyOutcome
    ) -> str:
        """Render a journey as lines, the last one empty.

        Args:
            records: events of one packet, in their order; at least one.
            steps: the same events, decoded.
            outcome: the outcome.
        """
        lines = [self._header(steps), *self._lines(records, steps), self._outcome_text(outcome), ""]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _header(self, steps: Sequence[Step]) -> str:
        first, duration = steps[0], steps[-1].ktime - steps[0].ktime
        flow = next((one.flow for one in steps if one.flow.l3), None)
        device_flow = next((one.flow for one in steps if one.flow.ifindex), first.flow)
        fields = [
            hex(first.packet.skb),
            f"packet {first.packet_id}",
            tuples.text(tuples.tuple_of(flow), self._flags)
            if flow
            else f"{_first_protocol(steps):#06x}",
            f"netns {device_flow.netns}" if device_flow.netns else "",
            device(device_flow, self._names),
            f"len {first.flow.len}",
            f"{len(steps)} event{'s' * (len(steps) != 1)} in {format_interval(duration)}",
            self._names.clock.local_time(first.ktime),
        ]
        return "  ".join(filter(None, fields))

    def _lines(self, records: Sequence[RawRecord], steps: Sequence[Step]) -> Iterator[str]:
        suffixes = self._extra_columns(records)
        before, last_task = steps[0], ""
        changes_by_step = describe_changes(steps, self._names, self._flags)
        for step, suffix, change_texts in zip(steps, suffixes, changes_by_step, strict=True):
            yield from (f"{'':{2 + _TIME_WIDTH}}{change}" for change in change_texts)
            task = f"cpu {step.packet.cpu}  {_task_label(step.packet, self._names)}"
            task_text, last_task = task if task != last_task else "", task
            since = max(step.ktime - before.ktime, 0)
            interval = f"+{format_interval(since):<{_TIME_WIDTH - 1}}"
            function = f"{self._event_text(step):<{_FUNCTION_WIDTH}}"
            yield f"  {interval}{function} {task_text}{suffix}"
            before = step

    def _event_text(self, step: Step) -> str:
        if step.nft is not None and step.nft.is_nft_event and self._nft is not NftOutput.NO:
            return "nft " + nft_render.line(step.nft, self._nft).lstrip()
        return self._names.function(*step.function)

    def _outcome_text(self, outcome: JourneyOutcome) -> str:
        (step,) = self._steps.decode([outcome.record])
        suffix = _OUTCOME_SUFFIXES.get(outcome.kind, _last_function_suffix)(step, self._names)
        return f"  {outcome.text}{suffix}"


def _task_label(packet: PacketFields, names: NameResolver) -> str:
    """Return ``curl:4242``; a name that is no path (``ksoftirqd/1``) isn't shortened."""
    path = process_path(packet, names)
    name = os.path.basename(path) if path.startswith("/") else path
    return f"{name or '<empty>'}:{packet.pid}"


def _first_protocol(steps: Sequence[Step]) -> int:
    return next((one.flow.protocol for one in steps if one.flow.protocol), 0)


def _last_function_suffix(step: Step, names: NameResolver) -> str:
    return f", last seen in {names.function(*step.function)}"


def _drop_suffix(step: Step, names: NameResolver) -> str:
    name, reason = name_and_reason(step.function, names)
    location = names.location(step.caller) if step.caller else ""
    rule = ""
    if step.nft is not None and step.nft.is_other_hook:
        rule = f", {nft_render.rule_text(step.nft)}"
    elif step.nft is not None and step.nft.verdict == "drop":
        rule = f" by {nft_render.chain_text(step.nft)} {nft_render.rule_text(step.nft)}"
    return f": {reason or name}{f' at {location}' if location else ''}{rule}"


def _delivery_suffix(step: Step, names: NameResolver) -> str:
    return f" {_task_label(step.packet, names)} in {names.function(*step.function)}"


def _device_suffix(step: Step, names: NameResolver) -> str:
    return f" {device(step.flow, names) or '?'}"


_OUTCOME_SUFFIXES: Mapping[str, Callable[[Step, NameResolver], str]] = {
    DROPPED: _drop_suffix,
    DELIVERED: _delivery_suffix,
    "sent": _device_suffix,
    "handled": lambda step, names: f" in {names.function(*step.function)}",
    "merged": lambda step, names: f" in {names.function(*step.function)}",
    "split": lambda step, names: f" in {names.function(*step.function)}",
    UNDER_WAY: _last_function_suffix,
}


def _extra_columns_renderer(
    layout: RecordLayout, columns: Sequence[Column], names: NameResolver
) -> Callable[[Sequence[RawRecord]], list[str]]:
    """Return a function that renders the optional columns of events, to append to their lines."""
    appended = {field.key for field in FIELDS if field.in_journey_lines}
    selected = [column for column in columns if column.name in appended]
    formatter = Lines(selected)
    if not formatter.columns:
        return lambda records: [""] * len(records)
    rendered: list[bytes] = []
    printer = Printer(formatter, names, rendered.extend, layout)

    def render(records: Sequence[RawRecord]) -> list[str]:
        rendered.clear()
        printer.show(records)
        texts = (text.decode().rstrip("\n") for text in rendered)
        return [f"  {text.lstrip(' ')}".replace("\n", _CONTINUATION) for text in texts]

    return render
