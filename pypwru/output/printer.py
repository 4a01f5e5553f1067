"""The printer, which renders batches of records and writes them, in any form.

Parts of a record repeat: most events of a trace differ from an earlier one only in the time and in
one part. So the rendered text of a part is cached under the bytes of the part, an event is a
look-up for each part and a join, and a batch is one write. The caches are bounded, and are cleared
once per second because names change: of processes, interfaces, and of modules and programs that are
loaded later.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pypwru.events.wire import wire
from pypwru.output.cutting import READERS, Cutter, Parts
from pypwru.output.nft_part import NOTHING
from pypwru.output.parts import KIND, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.columns import Column
    from pypwru.resolve.event_names import Names

_KEPT_TEXTS = 1 << 14
_KEPT_STACKS = 1 << 11
_NOT_KEPT = frozenset((Part.SKB, Part.SHINFO, Part.MAP))  # large, and rarely repeated
_NAMES_LAST_SECONDS = 1.0
_COMMON = (Part.PACKET, Part.FLOW, Part.FUNCTION)


class Form(ABC):
    """The format of events: text, JSON, or logfmt.

    Args:
        columns: of an event, in output order.
    """

    end: str
    """Terminator of an event."""
    types = False
    """True if the form has the column ``type``."""
    escape: Callable[[str], str] = staticmethod(str)
    """As Names.escape."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.grown = 0
        """How often a column became wider; cached texts from before are too narrow."""

    @abstractmethod
    def header(self) -> str:
        """Return the line of column titles, with its line break; empty if the form has none."""

    @abstractmethod
    def writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats a value of ``column``, with the separator before it."""


class _Texts(dict[bytes, bytes]):
    """Cache of part -> text; renders on a miss, and is cleared when full or when a column grew."""

    def __init__(self, render: Callable[[bytes], bytes], form: Form, most: int) -> None:
        super().__init__()
        self._render = render
        self._form = form
        self._grown = form.grown
        self._most = most

    def __missing__(self, part: bytes) -> bytes:
        text = self._render(part)
        if len(self) >= self._most or self._grown != self._form.grown:
            self._grown = self._form.grown
            self.clear()
        self[part] = text
        return text


class _Segment:
    """A run of adjacent columns that have their values from the same part.

    Args:
        part: of the columns.
        columns: in output order.
        form: of the output.
        names: the name resolver.
        end: text after the last of them.
    """

    def __init__(
        self, part: Part, columns: Sequence[Column], form: Form, names: Names, end: str
    ) -> None:
        self.part = part
        most = _KEPT_STACKS if part is Part.STACK else _KEPT_TEXTS
        self.texts = _Texts(self._render, form, most)
        self._names = names
        self._end = end
        self._makers = [(form.writer(column), column.value) for column in columns]

    def of(self, parts: Parts) -> Iterable[bytes]:
        """Return the text of these columns for each event of a batch."""
        if self.part is Part.TIME:
            packets = parts.get(Part.IDENTITY, parts[Part.PACKET])
            return map(self._stamper(), packets, parts[Part.TIME])
        if self.part in _NOT_KEPT:
            return map(self._render, parts[self.part])
        return map(self.texts.__getitem__, parts[self.part])

    def _stamper(self) -> Callable[[bytes, int], bytes]:
        """Return the formatter of times, which aren't cached; they are nearly always one column."""
        names, end = self._names, self._end
        (first, first_value), *more = self._makers

        def stamp(packet: bytes, ktime: int) -> bytes:
            event = (packet, ktime)
            text = first(first_value(event, names))
            for write, value in more:
                text += write(value(event, names))
            return (text + end).encode()

        return stamp

    def _render(self, octets: bytes) -> bytes:
        # Truncation inside a UTF-8 sequence leaves bytes that aren't UTF-8 (surrogates, PEP 383).
        return self._written(READERS[self.part](octets)).encode(errors="replace")

    def _written(self, fields: Any) -> str:
        names = self._names
        return "".join([write(value(fields, names)) for write, value in self._makers]) + self._end


class Printer:
    """The consumer of records that renders and writes them.

    Args:
        form: of the output.
        names: the name resolver; its ``escape`` is replaced by that of the form.
        write: receives the bytes of each event of a batch, in one call per batch.
        config: of the run; gives the layout of records.
        monotonic: seconds of a monotonic clock, to expire cached names.
    """

    def __init__(
        self,
        form: Form,
        names: Names,
        write: Callable[[Sequence[bytes]], object],
        config: Config,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._form = form
        self._names = names = names._replace(escape=form.escape)
        self._write = write
        self._monotonic = monotonic
        self._stale_at = 0.0
        self._segments = _segments(form, names)
        # The kind is in the packet part. In a run with several kinds it is appended to the parts
        # whose text depends on it.
        more_kinds = config.filter_trace_tc or config.filter_trace_xdp or config.output_bpfmap
        types = more_kinds or (config.asks_nft and form.types)
        by_kind = {Part.FUNCTION: types, Part.METADATA: more_kinds, Part.NFT: config.asks_nft}
        kinds = [part for part, is_shown in by_kind.items() if is_shown]
        self._cutter = Cutter(wire(config), kinds, names.rule, config.drops)
        shape = tuple(segment.part for segment in self._segments)
        self._common: Callable[[Sequence[Slices]], list[bytes]] | None = None
        if shape == _COMMON and not kinds:
            self._common = self._rows
        elif shape == (*_COMMON, Part.NFT) and self._cutter.tail == [Part.NFT] and not more_kinds:
            self._common = self._nft_rows

    def print_header(self) -> None:
        """Write the column titles, in a form that has them."""
        if header := self._form.header():
            self._write([header.encode()])

    def show(self, batch: Sequence[Slices]) -> None:
        """Render ``batch`` and write it with one call; an empty batch writes nothing.

        Raises:
            OutputError: from ``write``.
            OutputClosed: from ``write``.
        """
        if batch:
            self._forget_stale_names()
            self._write(self._common(batch) if self._common else self._events(batch))

    def _rows(self, batch: Sequence[Slices]) -> list[bytes]:
        """Render the most common set of columns, without splitting records first: the hot path."""
        packets, flows, functions = (segment.texts for segment in self._segments)
        return [
            packets[packet] + flows[flow] + functions[function]
            for packet, function, _, flow, _ in batch
        ]

    def _nft_rows(self, batch: Sequence[Slices]) -> list[bytes]:
        """Render the common columns and the nft column, which is empty in most events."""
        packets, flows, functions, said = (segment.texts for segment in self._segments)
        end, nothing, kind = said[NOTHING], NOTHING, KIND
        return [
            packets[packet]
            + flows[flow]
            + functions[function]
            + (end if tail == nothing else said[tail + packet[kind]])
            for packet, function, _, flow, tail in batch
        ]

    def _events(self, batch: Sequence[Slices]) -> list[bytes]:
        """Render any set of columns, one run of columns at a time."""
        self._names.clock.adjust()
        parts = self._cutter.parts(batch)
        segments = [segment.of(parts) for segment in self._segments]
        return list(map(b"".join, zip(*segments, strict=True)))

    def _forget_stale_names(self) -> None:
        now = self._monotonic()
        if now >= self._stale_at:
            self._stale_at = now + _NAMES_LAST_SECONDS
            for segment in self._segments:
                segment.texts.clear()


def _segments(form: Form, names: Names) -> list[_Segment]:
    groups = groupby(form.columns, key=lambda column: column.part)
    runs = [(part, tuple(columns)) for part, columns in groups]
    return [
        _Segment(part, columns, form, names, form.end if index == len(runs) else "")
        for index, (part, columns) in enumerate(runs, start=1)
    ]
