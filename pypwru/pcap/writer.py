"""The writer of packets to a capture file, or to a series of files."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import OutputClosed, OutputError
from pypwru.escaping import escape_unprintable
from pypwru.names.event_names import NameResolver, name_and_reason
from pypwru.packets.tracker import without_free_records
from pypwru.pcap.direction import epb_flags
from pypwru.pcap.formats import FormatFactory, format_factory
from pypwru.pcap.frame import make_frame
from pypwru.pcap.packet import BlockBuffer, Device, InterfaceInfo, PcapPacket
from pypwru.pcap.targets import CaptureFileSink, CaptureTarget, open_target
from pypwru.wire import fields as wire_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pypwru.log import Log
    from pypwru.pcap.select import CapturedEvent, CaptureSelector, TakeData
    from pypwru.signals import StopRequest
    from pypwru.wire.record import RawRecord

_MB = 1 << 20
_CACHE_SIZE = 1 << 14


class CaptureOptions(NamedTuple):
    """The options of a capture file.

    Args:
        path: of the file; ``-`` is standard output.
        max_size: MB (2**20 bytes) of the file before it is rotated; 0 for never.
        max_files: maximum number of files, with the current one; 0 for no limit.
        snaplen: maximum bytes of a captured packet.
        pcap_filter: the filter of the run, to be noted in the file.
        command: the command line as typed, to be noted in the file.
    """

    path: Path
    max_size: int
    max_files: int
    snaplen: int
    pcap_filter: str
    command: str


class PcapSetup(NamedTuple):
    """Target, format and limits, opened before a run begins.

    Args:
        target: open for writing; closed by the exit stack of ``open_pcap``.
        make_format: factory of the format of each file.
        snaplen: maximum bytes of a captured packet.
        max_size: bytes of a file before the target is rotated; 0 for never.
    """

    target: CaptureTarget
    make_format: FormatFactory
    snaplen: int
    max_size: int = 0


def open_pcap(options: CaptureOptions, stop: StopRequest, log: Log, stack: ExitStack) -> PcapSetup:
    """Open the target of --output-pcap.

    Args:
        options: of the file.
        stop: the stop request.
        log: receives what concerns the target while the run goes on.
        stack: takes ownership of the target.

    Raises:
        OutputError: it can't be opened, or another run writes to the file.
        OutputClosed: a stop request came before the reader of a named pipe.
        UsageError: standard output is a terminal.
    """
    path, max_size, max_files, snaplen, pcap_filter, command = options
    target = open_target(path, max_files, stop, log)
    stack.enter_context(target)
    make_format = format_factory(path, snaplen, pcap_filter, command)
    is_file = isinstance(target, CaptureFileSink)
    return PcapSetup(target, make_format, snaplen, max_size * _MB if is_file else 0)


class PcapOutput:
    """The consumer of records that writes their packets.

    Args:
        selector: selects the events whose packets are written.
        names: the name resolver.
        take_data: returns and removes the captured packet data of a record; as of ``selector``.
        setup: target, format and limits.
        comment: returns the comment of each record; used by formats that have comments.
        log: receives a warning if writing fails while the run goes on.
        is_only_output: whether a failure to write ends the run.
    """

    def __init__(
        self,
        selector: CaptureSelector,
        names: NameResolver,
        take_data: TakeData,
        setup: PcapSetup,
        comment: Callable[[Sequence[RawRecord]], Sequence[bytes]],
        log: Log,
        *,
        is_only_output: bool,
    ) -> None:
        self._names = names
        self._take_data = take_data
        self._packets_in_file = 0
        self._target, self._make_format, self._snaplen, self._max_size = setup
        self._log = log
        self._is_only_output = is_only_output
        self._selector = selector
        self._comment = comment
        self._device_and_protocol = lru_cache(_CACHE_SIZE)(_device_and_protocol)
        self._flags = lru_cache(_CACHE_SIZE)(self._find_flags)
        self._is_writable = True
        self.failure: OutputError | None = None
        """Why packets aren't written any more while the trace goes on; None: they are."""
        self._written = 0
        self._flushed = 0
        self._buffer = BlockBuffer()
        self._file = self._make_format(self._buffer, self._describe_interface)

    def begin(self) -> None:
        """Write what precedes the first packet.

        Raises:
            OutputClosed: the pipe has no reader any more.
            OutputError: writing failed, and the run has no other output.
        """
        with self._attempt():
            self._file.begin()
            self._flush()

    def show(self, batch: Sequence[RawRecord]) -> None:
        """Write the packets of a batch that --pcap-when selects, with one write.

        After a failure, packet data is still removed from its buffer.

        Args:
            batch: records in ring order, free records included.

        Raises:
            OutputClosed: as ``begin``.
            OutputError: as ``begin``.
        """
        if self._is_writable:
            with self._attempt():
                self._add(self._selector.select(batch))
                self._flush()
        else:
            for record in without_free_records(batch):
                self._take_data(record)

    def close(self, lost: int) -> None:
        """Write the buffered packets, and what follows the last one.

        Ignores a reader that went away. The target stays open.

        Args:
            lost: number of packets lost in all of the run.

        Raises:
            OutputError: as ``begin``.
        """
        if self._is_writable:
            with self._attempt(), suppress(OutputClosed):
                self._add(self._selector.take_buffered())
                self._file.end(lost - self._selector.reported_losses)
                self._flush()

    def summarize(self) -> dict[str, int]:
        """Return the number of packets written, for the last line of the log."""
        return {"pcap_packets": self._flushed}

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self._is_writable = False
            if self._is_only_output:
                raise
            self._log.warn("Continuing without --output-pcap", why=error)
            self.failure = error

    def _add(self, events: Sequence[CapturedEvent]) -> None:
        self._names.clock.refresh_offset()
        for event, comment in zip(events, self._render_comments(events), strict=True):
            packet = self._make_packet(event, comment)
            if self._is_full(packet):
                self._rotate()
            self._file.add(packet)
            self._packets_in_file += 1
            self._written += 1

    def _render_comments(self, events: Sequence[CapturedEvent]) -> Sequence[bytes]:
        """Return the comment of each event; empty in a format without comments."""
        if not self._file.has_comments:
            return [b""] * len(events)
        return self._comment([event.record for event in events])

    def _make_packet(self, event: CapturedEvent, comment: bytes) -> PcapPacket:
        _, func, ktime, flow, _ = event.record
        captured = event.captured
        device, protocol = self._device_and_protocol(flow)
        return PcapPacket(
            self._names.clock.wall_ns(ktime),
            make_frame(captured, protocol, self._snaplen, self._file.always_ethernet),
            device,
            comment,
            self._flags(func, captured.pkt_type),
            event.packet_number,
            event.lost_before,
            captured.queue,
        )

    def _is_full(self, packet: PcapPacket) -> bool:
        """Return whether the packet would exceed the maximum size; never for the first packet."""
        if not self._max_size or not self._packets_in_file:
            return False
        return self._buffer.size + self._file.max_growth(packet) > self._max_size

    def _rotate(self) -> None:
        assert isinstance(self._target, CaptureFileSink), (
            "only a CaptureFileSink has a maximum size"
        )
        self._file.end(0)
        self._flush()
        self._target.rotate()
        self._packets_in_file = 0
        self._buffer = BlockBuffer()
        self._file = self._make_format(self._buffer, self._describe_interface)
        self._file.begin()

    def _flush(self) -> None:
        try:
            self._target.write_events(self._buffer.take())
        except OutputClosed:
            # ``events`` would count blocks, and the number of whole events can't be derived.
            raise OutputClosed() from None
        except OutputError as error:
            error.events_written = 0
            raise
        self._flushed = self._written

    def _describe_interface(self, device: Device) -> InterfaceInfo:
        netns, cookie, ifindex, ifname = device
        name = f"network namespace {self._names.namespace(netns, cookie)}".rstrip()
        namespace = f"{name} (inode {netns})" if netns else "unknown network namespace"
        position = f"ifindex {ifindex}" if ifindex else "no device"
        return InterfaceInfo(
            escape_unprintable(ifname), escape_unprintable(f"{namespace}, {position}")
        )

    def _find_flags(self, func: bytes, packet_type: int) -> int:
        name, _ = name_and_reason(wire_fields.decode_function(func), self._names)
        return epb_flags(name.partition("[")[0], packet_type)


def _device_and_protocol(flow: bytes) -> tuple[Device, int]:
    """Return device and EtherType (host byte order) of a packet, from the flow part."""
    fields = wire_fields.decode_flow(flow)
    device = Device(fields.netns, fields.netns_cookie, fields.ifindex, fields.ifname)
    return device, fields.protocol
