"""Lines of text, pwru's to the byte.

Parts of a record repeat: most events of a trace differ from an earlier one only in the time and in
one part. So the text of a part is kept under the part's bytes, a line is three look-ups and two
joins, and a batch of lines is one write. What is kept is bounded, and what names a process or an
interface is kept for a second at most, because names change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pypwru.events.record import Record
from pypwru.output import parts
from pypwru.output.columns import Column, Names, Part
from pypwru.output.sink import OutputClosed

# packet part, func part, CLOCK_MONOTONIC ns, flow part
Event = Record

_KEPT_TEXTS = 1 << 14
_NAMES_LAST_SECONDS = 1.0


class _Texts(dict[bytes, bytes]):
    """Part to text; rendered on the first look-up, emptied when full."""

    def __init__(self, render: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._render = render

    def __missing__(self, part: bytes) -> bytes:
        if len(self) >= _KEPT_TEXTS:
            self.clear()
        text = self._render(part)
        self[part] = text
        return text


class TextPrinter:
    """Prints events as lines.

    Args:
        columns: what a line shows, in order.
        names: where numbers get their names.
        write: takes events, each the bytes of its whole lines.
        limit: events to print; 0 for no limit.
        monotonic: seconds, to know when names are stale.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        names: Names,
        write: Callable[[Sequence[bytes]], object],
        limit: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.printed = 0
        self._columns = tuple(columns)
        self._names = names
        self._write = write
        self._limit = limit
        self._monotonic = monotonic
        self._stale_at = 0.0
        self._longest: dict[str, int] = {}
        first_cached = next(i for i, column in enumerate(columns) if column.part is not Part.TIME)
        self._before = self._stamp(self._columns[:first_cached])
        self._between = self._stamp(self._columns[first_cached:])
        self._packets = _Texts(self._renderer(Part.PACKET, parts.packet))
        self._flows = _Texts(self._renderer(Part.FLOW, parts.flow))
        self._functions = _Texts(self._renderer(Part.FUNCTION, parts.function, end="\n"))

    def print_header(self) -> None:
        """The titles of the columns."""
        titles = (column.lead + column.width % column.header for column in self._columns)
        self._write([("".join(titles)[len(self._columns[0].lead) :] + "\n").encode()])

    def print_batch(self, batch: Sequence[Event]) -> bool:
        """Print ``batch`` with one write; true when the limit is reached.

        Raises:
            OutputError, OutputClosed: from ``write``.
        """
        if self._limit:
            batch = batch[: self._limit - self.printed]
        if batch:
            self._forget_stale_names()
            try:
                self._write(self._lines(batch))
            except OutputClosed as closed:
                self.printed += closed.events
                raise
            self.printed += len(batch)
        return self._limit > 0 and self.printed >= self._limit

    def _lines(self, batch: Sequence[Event]) -> list[bytes]:
        packets, flows, functions = self._packets, self._flows, self._functions
        before, between = self._before, self._between
        if between is None:
            return [
                packets[packet] + flows[flow] + functions[function]
                for packet, function, _, flow, _ in batch
            ]
        self._names.clock.adjust()
        if before is None:
            return [
                packets[packet] + between(packet, ktime) + flows[flow] + functions[function]
                for packet, function, ktime, flow, _ in batch
            ]
        return [
            before(packet, ktime)
            + packets[packet]
            + between(packet, ktime)
            + flows[flow]
            + functions[function]
            for packet, function, ktime, flow, _ in batch
        ]

    def _forget_stale_names(self) -> None:
        now = self._monotonic()
        if now >= self._stale_at:
            self._stale_at = now + _NAMES_LAST_SECONDS
            self._packets.clear()
            self._flows.clear()

    def _of(self, part: Part) -> list[Column]:
        return [column for column in self._columns if column.part is part]

    def _lead(self, column: Column) -> str:
        return column.lead if column is not self._columns[0] else ""

    def _stamp(self, columns: Sequence[Column]) -> Callable[[bytes, int], bytes] | None:
        """The text of the times among ``columns``, which is never kept; None without any."""
        times = [column for column in columns if column.part is Part.TIME]
        if not times:
            return None
        form = "".join(self._lead(column) + column.width for column in times)
        makers = [(column.text, column.value) for column in times]
        names = self._names

        def stamp(packet: bytes, ktime: int) -> bytes:
            event = (packet, ktime)
            return (form % tuple([text(value(event, names)) for text, value in makers])).encode()

        return stamp

    def _renderer(
        self, part: Part, fields_of: Callable[[bytes], Any], end: str = ""
    ) -> Callable[[bytes], bytes]:
        columns = self._of(part)

        def render(octets: bytes) -> bytes:
            fields = fields_of(octets)
            texts = [
                self._lead(column) + self._padded(column, column.value(fields, self._names))
                for column in columns
            ]
            # Names of processes and interfaces are bytes that need not be UTF-8 (PEP 383).
            return ("".join(texts) + end).encode("utf-8", "surrogateescape")

        return render

    def _padded(self, column: Column, value: Any) -> str:
        text = column.width % column.text(value)
        if not column.grows or column is self._columns[-1]:
            return text
        longest = self._longest.get(column.name, 0)
        if len(text) > longest:
            longest = self._longest[column.name] = len(text)
            # What is kept was padded to the shorter width.
            (self._flows if column.part is Part.FLOW else self._functions).clear()
        return text.ljust(longest)
