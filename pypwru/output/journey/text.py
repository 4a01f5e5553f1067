"""A journey as text: a header, a line per event with the time since the one before, lines for
changes of the packet, and the outcome.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pypwru.config import Config
from pypwru.config import Nft as Mode
from pypwru.escaping import escape_unprintable
from pypwru.output import nft, tuples
from pypwru.output.columns import columns, program
from pypwru.output.journey.changes import changes, device
from pypwru.output.journey.ends import DELIVERED, DROPPED, UNDER_WAY, End
from pypwru.output.journey.steps import Step, Steps
from pypwru.output.printer import Printer
from pypwru.output.text import Text as Lines
from pypwru.resolve.event_names import Names, name_and_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.events.record import Slices
    from pypwru.output.parts import Packet

# Columns of options that are appended to a line; a journey has those of other columns elsewhere.
_MORE = frozenset(
    [
        "caller_func",
        "cb",
        "ct",
        "skb_members",
        "xdp_members",
        "stack",
        "skb_metadata",
        "skb_shared_info",
        "tunnel_tuple",
        "bpfmap",
    ]
)
_FUNCTION = 46  # characters
_TIME = 13
_BELOW = "\n" + " " * (2 + _TIME)
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us"))


def interval(nanoseconds: int) -> str:
    """Format an interval with three significant digits, ``84.1 us``; below 1 us in whole ns."""
    for unit, word in _UNITS:
        if nanoseconds >= 0.9995 * unit:  # 999.6 us round to 1.00 ms
            number = nanoseconds / unit
            digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
            return f"{number:.{digits}f} {word}"
    return f"{nanoseconds} ns"


class Text:
    """The text format of a journey.

    Args:
        config: of the run.
        names: the name resolver.
    """

    def __init__(self, config: Config, names: Names) -> None:
        self._names = names = names._replace(escape=escape_unprintable)
        self._steps = Steps(config, names)
        self._flags = config.output_tcp_flags
        self._nft = config.output_nft
        self._more = _more(config, names)

    def written(self, sights: Sequence[Slices], steps: Sequence[Step], end: End) -> str:
        """Render a journey as lines, the last one empty.

        Args:
            sights: events of one packet, in their order; at least one.
            steps: the same events, decoded.
            end: the outcome.
        """
        lines = [self._header(steps), *self._lines(sights, steps), self._end(end), ""]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _header(self, steps: Sequence[Step]) -> str:
        first, took = steps[0], steps[-1].ktime - steps[0].ktime
        ends = next((one.flow for one in steps if one.flow.l3), None)
        on = next((one.flow for one in steps if one.flow.ifindex), first.flow)
        words = [
            hex(first.packet.skb),
            f"packet {first.identity}" if first.identity else "",
            tuples.text(tuples.tuple_of(ends), self._flags) if ends else f"{_proto(steps):#06x}",
            f"netns {on.netns}" if on.netns else "",
            device(on, self._names),
            f"len {first.flow.len}",
            f"{len(steps)} event{'s' * (len(steps) != 1)} in {interval(took)}",
            self._names.clock.wall(first.ktime),
        ]
        return "  ".join(filter(None, words))

    def _lines(self, sights: Sequence[Slices], steps: Sequence[Step]) -> Iterator[str]:
        more = self._more(sights)
        before, where = steps[0], ""
        changed = changes(steps, self._names, self._flags)
        for step, behind, words in zip(steps, more, changed, strict=True):
            yield from (f"{'':{2 + _TIME}}{change}" for change in words)
            now = f"cpu {step.packet.cpu}  {_task(step.packet, self._names)}"
            shown, where = now if now != where else "", now
            since = max(step.ktime - before.ktime, 0)
            line = f"  +{interval(since):<{_TIME - 1}}{self._what(step):<{_FUNCTION}}"
            yield f"{line} {shown}{behind}"
            before = step

    def _what(self, step: Step) -> str:
        if step.said is not None and step.said.is_own and self._nft is not Mode.NO:
            return "nft " + nft.line(step.said, self._nft).lstrip()
        return self._names.function(*step.function)

    def _end(self, end: End) -> str:
        (step,) = self._steps.of([end.record])
        behind = _BEHIND.get(end.kind, _seen)(step, self._names)
        return f"  {end.words}{behind}"


def _task(packet: Packet, names: Names) -> str:
    """Return ``curl:4242``; a name that is no path (``ksoftirqd/1``) isn't shortened."""
    path = program(packet, names)
    name = os.path.basename(path) if path.startswith("/") else path
    return f"{name or '<empty>'}:{packet.pid}"


def _proto(steps: Sequence[Step]) -> int:
    return next((one.flow.protocol for one in steps if one.flow.protocol), 0)


def _seen(step: Step, names: Names) -> str:
    return f", last seen in {names.function(*step.function)}"


def _dropped(step: Step, names: Names) -> str:
    name, reason = name_and_reason(step.function, names)
    location = names.location(step.caller) if step.caller else ""
    by = ""
    if step.said is not None and step.said.is_another:
        by = f", {nft.rule_text(step.said)}"
    elif step.said is not None and step.said.verdict == "drop":
        by = f" by {nft.chain_text(step.said)} {nft.rule_text(step.said)}"
    return f": {reason or name}{f' at {location}' if location else ''}{by}"


def _delivered(step: Step, names: Names) -> str:
    return f" {_task(step.packet, names)} in {names.function(*step.function)}"


def _sent(step: Step, names: Names) -> str:
    return f" {device(step.flow, names) or '?'}"


_BEHIND: Mapping[str, Callable[[Step, Names], str]] = {
    DROPPED: _dropped,
    DELIVERED: _delivered,
    "sent": _sent,
    "handled": lambda step, names: f" in {names.function(*step.function)}",
    "merged": lambda step, names: f" in {names.function(*step.function)}",
    "split": lambda step, names: f" in {names.function(*step.function)}",
    UNDER_WAY: _seen,
}


def _more(config: Config, names: Names) -> Callable[[Sequence[Slices]], list[str]]:
    """Return a function that renders the optional columns of events, to append to their lines."""
    asked = [column for column in columns(config) if column.name in _MORE]
    form = Lines(asked)
    if not form.columns:
        return lambda sights: [""] * len(sights)
    made: list[bytes] = []
    printer = Printer(form, names, made.extend, config)

    def behind(sights: Sequence[Slices]) -> list[str]:
        made.clear()
        printer.show(sights)
        texts = (text.decode().rstrip("\n") for text in made)
        return [f"  {text.lstrip(' ')}".replace("\n", _BELOW) for text in texts]

    return behind
