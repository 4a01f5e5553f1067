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

from pypwru.bounded_memo import BoundedMemo
from pypwru.nft.record import EMPTY_NFT
from pypwru.output.split import DECODERS, BatchParts, RecordSplitter
from pypwru.wire.fields import KIND_SLICE, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pypwru.names.event_names import NameResolver
    from pypwru.output.columns import Column
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_MAX_TEXTS = 1 << 14
_MAX_STACKS = 1 << 11
_UNCACHED_PARTS = frozenset((Part.SKB, Part.SHINFO, Part.MAP))  # large, and rarely repeated
_NAME_TTL = 1.0
_COMMON_PARTS = (Part.PACKET, Part.FLOW, Part.FUNCTION)


class Formatter(ABC):
    """The format of events: text, JSON, or logfmt.

    Args:
        columns: of an event, in output order.
    """

    terminator: str
    """Terminator of an event."""
    has_event_type = False
    """True if the form has the column ``type``."""
    escape: Callable[[str], str] = staticmethod(str)
    """As Names.escape."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.width_changes = 0
        """How often a column became wider; cached texts from before are too narrow."""

    @abstractmethod
    def header(self) -> str:
        """Return the line of column titles, with its line break; empty if the form has none."""

    @abstractmethod
    def column_writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats a value of ``column``, with the separator before it."""


class _ColumnGroup:
    """A run of adjacent columns that have their values from the same part.

    Args:
        part: of the columns.
        columns: in output order.
        formatter: of the output.
        names: the name resolver.
        terminator: text after the last of them.
    """

    def __init__(
        self,
        part: Part,
        columns: Sequence[Column],
        formatter: Formatter,
        names: NameResolver,
        terminator: str,
    ) -> None:
        self.part = part
        max_size = _MAX_STACKS if part is Part.STACK else _MAX_TEXTS
        self.texts = BoundedMemo(self._render_new_part, max_size)
        self._formatter = formatter
        self._width_changes = formatter.width_changes
        self._names = names
        self._terminator = terminator
        self._writers = [(formatter.column_writer(column), column.value) for column in columns]

    def render(self, parts: BatchParts) -> Iterable[bytes]:
        """Return the text of these columns for each event of a batch."""
        if self.part is Part.TIME:
            packets = parts.get(Part.PACKET_ID, parts[Part.PACKET])
            return map(self._time_formatter(), packets, parts[Part.TIME])
        if self.part in _UNCACHED_PARTS:
            return map(self._render_part, parts[self.part])
        return map(self.texts.__getitem__, parts[self.part])

    def _time_formatter(self) -> Callable[[bytes, int], bytes]:
        """Return the formatter of times, which aren't cached; they are nearly always one column."""
        names, end = self._names, self._terminator
        (first, first_value), *more = self._writers

        def format_time(packet: bytes, ktime: int) -> bytes:
            event = (packet, ktime)
            text = first(first_value(event, names))
            for write, value in more:
                text += write(value(event, names))
            return (text + end).encode()

        return format_time

    def _render_new_part(self, data: bytes) -> bytes:
        """Render a part for ``texts``, which is emptied when a column grew."""
        text = self._render_part(data)
        if self._width_changes != self._formatter.width_changes:
            self._width_changes = self._formatter.width_changes
            self.texts.clear()
        return text

    def _render_part(self, data: bytes) -> bytes:
        # Truncation inside a UTF-8 sequence leaves bytes that aren't UTF-8 (surrogates, PEP 383).
        return self._render_fields(DECODERS[self.part](data)).encode(errors="replace")

    def _render_fields(self, fields: Any) -> str:
        names = self._names
        return (
            "".join([write(value(fields, names)) for write, value in self._writers])
            + self._terminator
        )


class Printer:
    """The consumer of records that renders and writes them.

    Args:
        formatter: of the output.
        names: the name resolver; its ``escape`` is replaced by that of the form.
        write: receives the bytes of each event of a batch, in one call per batch.
        layout: the layout of records.
        monotonic: seconds of a monotonic clock, to expire cached names.
    """

    def __init__(
        self,
        formatter: Formatter,
        names: NameResolver,
        write: Callable[[Sequence[bytes]], object],
        layout: RecordLayout,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._formatter = formatter
        self._names = names = names._replace(escape=formatter.escape)
        self._write = write
        self._monotonic = monotonic
        self._stale_at = 0.0
        self._groups = _column_groups(formatter, names)
        # The kind is in the packet part. In a run with several kinds it is appended to the parts
        # whose text depends on it.
        more_kinds = layout.has_program_events or Part.MAP.value in layout.parts
        has_nft = Part.NFT.value in layout.parts
        types = more_kinds or (has_nft and formatter.has_event_type)
        by_kind = {Part.FUNCTION: types, Part.METADATA: more_kinds, Part.NFT: has_nft}
        kinds = [part for part, is_shown in by_kind.items() if is_shown]
        needs_location = any(column.part is Part.LOCATION for column in formatter.columns)
        self._splitter = RecordSplitter(layout, kinds, names.rule, needs_location)
        shape = tuple(group.part for group in self._groups)
        self._fast_path: Callable[[Sequence[RawRecord]], list[bytes]] | None = None
        if shape == _COMMON_PARTS and not kinds:
            self._fast_path = self._common_rows
        elif (
            shape == (*_COMMON_PARTS, Part.NFT)
            and self._splitter.tail_parts == [Part.NFT]
            and not more_kinds
        ):
            self._fast_path = self._nft_rows

    def print_header(self) -> None:
        """Write the column titles, in a form that has them."""
        if header := self._formatter.header():
            self._write([header.encode()])

    def show(self, batch: Sequence[RawRecord]) -> None:
        """Render ``batch`` and write it with one call; an empty batch writes nothing.

        Raises:
            OutputError: from ``write``.
            OutputClosed: from ``write``.
        """
        if batch:
            self._expire_names()
            self._write(self._fast_path(batch) if self._fast_path else self._render_groups(batch))

    def _common_rows(self, batch: Sequence[RawRecord]) -> list[bytes]:
        """Render the most common set of columns, without splitting records first: the hot path."""
        packets, flows, functions = (group.texts for group in self._groups)
        return [
            packets[packet] + flows[flow] + functions[function]
            for packet, function, _, flow, _ in batch
        ]

    def _nft_rows(self, batch: Sequence[RawRecord]) -> list[bytes]:
        """Render the common columns and the nft column, which is empty in most events."""
        packets, flows, functions, nft_texts = (group.texts for group in self._groups)
        empty_text, empty_nft, kind = nft_texts[EMPTY_NFT], EMPTY_NFT, KIND_SLICE
        return [
            packets[packet]
            + flows[flow]
            + functions[function]
            + (empty_text if tail == empty_nft else nft_texts[tail + packet[kind]])
            for packet, function, _, flow, tail in batch
        ]

    def _render_groups(self, batch: Sequence[RawRecord]) -> list[bytes]:
        """Render any set of columns, one run of columns at a time."""
        self._names.clock.refresh_offset()
        parts = self._splitter.split(batch)
        texts = [group.render(parts) for group in self._groups]
        return list(map(b"".join, zip(*texts, strict=True)))

    def _expire_names(self) -> None:
        now = self._monotonic()
        if now >= self._stale_at:
            self._stale_at = now + _NAME_TTL
            for group in self._groups:
                group.texts.clear()


def _column_groups(formatter: Formatter, names: NameResolver) -> list[_ColumnGroup]:
    groups = groupby(formatter.columns, key=lambda column: column.part)
    runs = [(part, tuple(columns)) for part, columns in groups]
    return [
        _ColumnGroup(
            part, columns, formatter, names, formatter.terminator if index == len(runs) else ""
        )
        for index, (part, columns) in enumerate(runs, start=1)
    ]
