"""From batches of records to packets in a file, or in a row of files."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Config
from pypwru.errors import OutputClosed, OutputError
from pypwru.escaping import escape_unprintable
from pypwru.output import parts
from pypwru.output.columns import Names, name_and_reason
from pypwru.output.pcap.comment import Comments
from pypwru.output.pcap.directions import epb_flags
from pypwru.output.pcap.entry import Blocks, Described, Device, Entry
from pypwru.output.pcap.files import FileSink, Target, open_target
from pypwru.output.pcap.formats import MakeFormat, make_format
from pypwru.output.pcap.frames import frame
from pypwru.output.pcap.sights import Sight, Sights, Take

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pypwru.events.record import Slices
    from pypwru.log import Log
    from pypwru.signals import Interrupts

_MB = 1 << 20
_KEPT = 1 << 14


class Opened(NamedTuple):
    """What is opened before a run begins.

    Args:
        target: where packets go.
        make: a file's format.
    """

    target: Target
    make: MakeFormat


def open_pcap(config: Config, stop: Interrupts, log: Log, stack: ExitStack, command: str) -> Opened:
    """What --output-pcap names, opened.

    Args:
        stack: closes it.
        command: the command line, as typed.

    Raises:
        OutputError: it can't be opened.
        UsageError: it would be written to a terminal, or two runs to one file.
    """
    target = open_target(config, stop, log)
    stack.enter_context(target)
    return Opened(target, make_format(config, command))


def _go_on(config: Config, log: Log, error: OutputError) -> None:
    """Say that packets are not written, if the run has something else to do."""
    if not (config.prints or config.packets or config.sums_up):
        raise error
    log.warn("Going on without --output-pcap", why=error)


class PcapOutput:
    """Writes packets.

    Args:
        config: of the run.
        names: of what is in records.
        take: the bytes of a record.
        opened: where to, and how.
        log: told when that is no longer possible.
    """

    def __init__(self, config: Config, names: Names, take: Take, opened: Opened, log: Log) -> None:
        self._config = config
        self._names = names
        self._take = take
        self._in_file = 0
        self._target, self._make = opened
        self._log = log
        is_file = isinstance(opened.target, FileSink)
        self._max_size = config.pcap_max_size * _MB if is_file else 0
        self._sights = Sights(config.capture_when, names, take)
        self._comments = Comments(config, names)
        self._place = lru_cache(_KEPT)(_place)
        self._flags = lru_cache(_KEPT)(self._find_flags)
        self._works = True
        self.failure: OutputError | None = None
        """Why packets are not written any more, while the trace goes on."""
        self._written = 0
        self._flushed = 0
        self._blocks = Blocks()
        self._file = self._make(self._blocks, self._describe)

    def begin(self) -> None:
        """Write what stands before the first packet.

        Raises:
            OutputClosed: nobody reads the pipe any more.
            OutputError: it can't be written, and there is nothing else to write.
        """
        with self._attempt():
            self._file.begin()
            self._flush()

    def show(self, batch: Sequence[Slices]) -> None:
        """Write those of a batch that are asked for, with one write.

        Raises:
            OutputClosed, OutputError: as ``begin``.
        """
        if self._works:
            with self._attempt():
                self._add(self._sights.of(batch))
                self._flush()
        else:
            for record in batch:
                self._take(record)

    def close(self, lost: int) -> None:
        """Write packets that were kept, and what stands behind the last one.

        Args:
            lost: packets, in all of the run.

        Raises:
            OutputError: as ``begin``.
        """
        if self._works:
            with self._attempt(), suppress(OutputClosed):
                self._add(self._sights.rest())
                self._file.end(lost - self._sights.told)
                self._flush()

    def account(self) -> dict[str, int]:
        """How many packets were written, for the last line of the log."""
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
        """Their comments."""
        if not self._file.has_comments:
            return [b""] * len(sights)
        return self._comments.of([sight.record for sight in sights])

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
        """Whether the file would grow too large; one without a packet takes any."""
        if not self._max_size or not self._in_file:
            return False
        return self._blocks.size + self._file.needs(entry) > self._max_size

    def _rotate(self) -> None:
        assert isinstance(self._target, FileSink), "nothing else is ever full"
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
            raise OutputClosed() from None  # of blocks; how many events it got nobody knows
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
    """Where a packet is, and what it is."""
    fields = parts.flow(flow)
    device = Device(fields.netns, fields.netns_cookie, fields.ifindex, fields.ifname)
    return device, fields.protocol
