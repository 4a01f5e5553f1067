"""The writer of packets to a capture file, or to a series of files."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Config
from pypwru.errors import OutputClosed, OutputError
from pypwru.escaping import escape_unprintable
from pypwru.output import parts
from pypwru.output.pcap.directions import epb_flags
from pypwru.output.pcap.entry import Blocks, Described, Device, Entry
from pypwru.output.pcap.files import FileSink, Target, open_target
from pypwru.output.pcap.formats import MakeFormat, make_format
from pypwru.output.pcap.frames import frame
from pypwru.output.pcap.sights import Sight, Sights, Take
from pypwru.resolve.event_names import Names, name_and_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.events.record import Slices
    from pypwru.log import Log
    from pypwru.signals import Interrupts

_MB = 1 << 20
_KEPT = 1 << 14


class Opened(NamedTuple):
    """Target and format, opened before a run begins.

    Args:
        target: open for writing; closed by the exit stack of ``open_pcap``.
        make: factory of the format of each file.
    """

    target: Target
    make: MakeFormat


def open_pcap(config: Config, stop: Interrupts, log: Log, stack: ExitStack, command: str) -> Opened:
    """Open the target of --output-pcap.

    Args:
        config: of the run; --output-pcap must be set.
        stop: the stop request.
        log: receives what concerns the target while the run goes on.
        stack: takes ownership of the target.
        command: the command line as typed.

    Raises:
        OutputError: it can't be opened, or another run writes to the file.
        OutputClosed: a stop request came before the reader of a named pipe.
        UsageError: standard output is a terminal.
    """
    target = open_target(config, stop, log)
    stack.enter_context(target)
    return Opened(target, make_format(config, command))


def _go_on(config: Config, log: Log, error: OutputError) -> None:
    """Log that packets aren't written any more; raise ``error`` if the run has no other output."""
    if not (config.prints or config.packets or config.sums_up):
        raise error
    log.warn("Continuing without --output-pcap", why=error)


class PcapOutput:
    """The consumer of records that writes their packets.

    Args:
        config: of the run.
        names: the name resolver.
        take: returns and removes the captured packet data of a record.
        opened: target and format.
        comment: returns the comment of each record; used by formats that have comments.
        log: receives a warning if writing fails while the run goes on.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        take: Take,
        opened: Opened,
        comment: Callable[[Sequence[Slices]], Sequence[bytes]],
        log: Log,
    ) -> None:
        self._config = config
        self._names = names
        self._take = take
        self._in_file = 0
        self._target, self._make = opened
        self._log = log
        is_file = isinstance(opened.target, FileSink)
        self._max_size = config.pcap_max_size * _MB if is_file else 0
        self._sights = Sights(config.capture_when, names, take)
        self._comment = comment
        self._place = lru_cache(_KEPT)(_place)
        self._flags = lru_cache(_KEPT)(self._find_flags)
        self._works = True
        self.failure: OutputError | None = None
        """Why packets aren't written any more while the trace goes on; None: they are."""
        self._written = 0
        self._flushed = 0
        self._blocks = Blocks()
        self._file = self._make(self._blocks, self._describe)

    def begin(self) -> None:
        """Write what precedes the first packet.

        Raises:
            OutputClosed: the pipe has no reader any more.
            OutputError: writing failed, and the run has no other output.
        """
        with self._attempt():
            self._file.begin()
            self._flush()

    def show(self, batch: Sequence[Slices]) -> None:
        """Write the packets of a batch that --pcap-when selects, with one write.

        After a failure, packet data is still removed from its buffer.

        Raises:
            OutputClosed: as ``begin``.
            OutputError: as ``begin``.
        """
        if self._works:
            with self._attempt():
                self._add(self._sights.of(batch))
                self._flush()
        else:
            for record in batch:
                self._take(record)

    def close(self, lost: int) -> None:
        """Write the buffered packets, and what follows the last one.

        Ignores a reader that went away. The target stays open.

        Args:
            lost: number of packets lost in all of the run.

        Raises:
            OutputError: as ``begin``.
        """
        if self._works:
            with self._attempt(), suppress(OutputClosed):
                self._add(self._sights.rest())
                self._file.end(lost - self._sights.told)
                self._flush()

    def account(self) -> dict[str, int]:
        """Return the number of packets written, for the last line of the log."""
        return {"pcap_packets": self._flushed}

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self._works = False
            _go_on(self._config, self._log, error)
            self.failure = error

    def _add(self, sights: Sequence[Sight]) -> None:
        self._names.clock.adjust()
        for sight, comment in zip(sights, self._said(sights), strict=True):
            entry = self._entry(sight, comment)
            if self._is_full(entry):
                self._rotate()
            self._file.add(entry)
            self._in_file += 1
            self._written += 1

    def _said(self, sights: Sequence[Sight]) -> Sequence[bytes]:
        """Return the comment of each event; empty in a format without comments."""
        if not self._file.has_comments:
            return [b""] * len(sights)
        return self._comment([sight.record for sight in sights])

    def _entry(self, sight: Sight, comment: bytes) -> Entry:
        _, func, ktime, flow, _ = sight.record
        captured = sight.captured
        device, protocol = self._place(flow)
        return Entry(
            self._names.clock.wall_nanoseconds(ktime),
            frame(captured, protocol, self._config.pcap_snaplen, self._file.always_ethernet),
            device,
            comment,
            self._flags(func, captured.type),
            sight.number,
            sight.dropped,
            captured.queue,
        )

    def _is_full(self, entry: Entry) -> bool:
        """Return whether the packet would exceed the maximum size; never for the first packet."""
        if not self._max_size or not self._in_file:
            return False
        return self._blocks.size + self._file.needs(entry) > self._max_size

    def _rotate(self) -> None:
        assert isinstance(self._target, FileSink), "only a FileSink has a maximum size"
        self._file.end(0)
        self._flush()
        self._target.rotate()
        self._in_file = 0
        self._blocks = Blocks()
        self._file = self._make(self._blocks, self._describe)
        self._file.begin()

    def _flush(self) -> None:
        try:
            self._target.write_events(self._blocks.take())
        except OutputClosed:
            # ``events`` would count blocks, and the number of whole events can't be derived.
            raise OutputClosed() from None
        except OutputError as error:
            error.events = 0
            raise
        self._flushed = self._written

    def _describe(self, device: Device) -> Described:
        netns, cookie, ifindex, ifname = device
        named = f"network namespace {self._names.namespace(netns, cookie)}".rstrip()
        whose = f"{named} (inode {netns})" if netns else "unknown network namespace"
        where = f"ifindex {ifindex}" if ifindex else "no device"
        return Described(escape_unprintable(ifname), escape_unprintable(f"{whose}, {where}"))

    def _find_flags(self, func: bytes, packet_type: int) -> int:
        name, _ = name_and_reason(parts.function(func), self._names)
        return epb_flags(name.partition("[")[0], packet_type)


def _place(flow: bytes) -> tuple[Device, int]:
    """Return device and EtherType (host byte order) of a packet, from the flow part."""
    fields = parts.flow(flow)
    device = Device(fields.netns, fields.netns_cookie, fields.ifindex, fields.ifname)
    return device, fields.protocol
