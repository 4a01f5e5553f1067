"""Packets with their bytes, and capture files that are written from them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pypwru.config import Config
from pypwru.discovery.targets import Targets
from pypwru.log import Log
from pypwru.names.clock import Clock
from pypwru.names.event_names import NameResolver
from pypwru.output.packet_comment import CommentRenderer
from pypwru.pcap.packet_data import PacketCapture
from pypwru.pcap.select import CaptureSelector
from pypwru.pcap.writer import CaptureOptions, PcapOutput, PcapSetup, open_pcap
from pypwru.signals import StopRequest
from pypwru.wire.record import RawRecord, Record
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.need import need
from tests.support.records import configured, event, flow, names, packet, tail

QUIET = Log(None)
NEVER = StopRequest(os.pipe()[0])  # its other end stays open
COMMAND = "pypwru 'tcp port 80'"
EPOCH = 1_795_000_000_000_000_123  # ns, of the kernel's clock's zero
NO_DEVICE = 0xFFFF
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
IP = bytes.fromhex("45000014000100004011") + bytes(2) + bytes((192, 0, 2, 1, 192, 0, 2, 2))
IP6 = bytes.fromhex("6000000000003b40") + bytes(32)
MACS = bytes.fromhex("0200000000020200000000 01".replace(" ", ""))
FRAME = MACS + b"\x08\x00" + IP
REQUEST = bytes.fromhex("0001080006040001") + bytes(20)


def captured(
    data: bytes = FRAME,
    length: int | None = None,
    *,
    tag: int = 0,
    device: int = 1,
    queue: int = 0,
    layer: int = 2,
    type: int = 0,
    first: bool = False,
    dropped: int = 0,
) -> PacketCapture:
    """Return the capture of a frame of a packet that has had events before."""
    size = len(data) if length is None else length
    return PacketCapture(data, size, tag, device, queue, layer, type, first, dropped)


def captured_event(
    function: int = 3, skb: int = 1, ktime: int = 0, reason: int = 0, **flow_fields: Any
) -> Record:
    return event(packet(skb, 0, 7), function, flow(**({"ifindex": 2} | flow_fields)), ktime, reason)


Pair = tuple[Record, PacketCapture | None]


class QueuedCaptures:
    """Captures of records, popped in the order of the records."""

    def __init__(self) -> None:
        self.waiting: list[Pair] = []

    def __call__(self, record: RawRecord) -> PacketCapture | None:
        expected, answer = self.waiting.pop(0)
        assert record == expected, "records are looked up once, in order"
        return answer


def capture_options(config: Config, command: str = COMMAND) -> CaptureOptions:
    """Return the options of the capture file of a run."""
    assert config.output_pcap
    return CaptureOptions(
        config.output_pcap,
        config.pcap_max_size,
        config.pcap_max_files,
        config.pcap_snaplen,
        config.pcap_filter,
        command,
    )


def make_output(
    config: Config,
    opened: PcapSetup,
    named: NameResolver,
    targets: Targets,
    taken: QueuedCaptures,
    log: Log = QUIET,
) -> PcapOutput:
    """Return the writer of captured packets of a run."""
    layout = layout_of(config)
    return PcapOutput(
        CaptureSelector(config.capture_when, layout, named, targets, taken),
        named,
        taken,
        opened,
        CommentRenderer(layout, named).render,
        log,
        is_only_output=not (config.prints_events or config.has_statistics),
    )


class Writer:
    """The --output-pcap of a run.

    Args:
        flags: command-line flags, with ``--output-pcap``.
    """

    def __init__(
        self, flags: str, stack: ExitStack, log: Log = QUIET, stop: StopRequest = NEVER
    ) -> None:
        self.config = configured(flags)
        opened = open_pcap(capture_options(self.config), stop, log, stack)
        self.taken = QueuedCaptures()
        self.lost = 0
        named = names(clock=Clock(lambda: EPOCH))
        self.output = make_output(
            self.config, opened, named, Targets(records.FUNCTIONS), self.taken, log
        )
        self.output.begin()

    def show(self, *batch: Pair) -> None:
        """Write records; one without a tail gets one of ``records.tail``."""
        nothing = tail(self.config)
        whole = [
            (record._replace(tail=record.tail or nothing), capture) for record, capture in batch
        ]
        self.taken.waiting += whole
        self.lost += sum(capture.lost_before for _, capture in whole if capture)
        self.output.show([record for record, _ in whole])
        assert not self.taken.waiting


def write(flags: str, *batches: Iterable[Pair]) -> Config:
    """Write a whole run."""
    with ExitStack() as stack:
        writer = Writer(flags, stack)
        for batch in batches:
            writer.show(*batch)
        writer.output.close(writer.lost)
    return writer.config


def tool(name: str, *arguments: str | Path) -> str:
    """Return what one of Wireshark's tools prints; it must not complain."""
    need(shutil.which(name), f"{name}, of Debian's tshark")
    done = subprocess.run(
        [name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )
    messages = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, messages) == (0, []), f"{name}: {done.stderr}"
    return done.stdout


def fields(path: Path, *names: str, **_more: str) -> list[list[str]]:
    """Return fields of each packet, as tshark dissects it; none may be malformed."""
    columns = [word for name in ("_ws.malformed", *names) for word in ("-e", name)]
    rows = [
        line.split("\t")
        for line in tool("tshark", "-n", "-r", path, "-T", "fields", *columns).splitlines()
    ]
    assert [row for row in rows if row[0]] == []
    return [row[1:] for row in rows]


def blocks(path: Path) -> list[str]:
    """Return the blocks of a pcapng file, as tshark dissects the file itself."""
    text = tool("tshark", "-r", path, "-X", "read_format:MIME Files Format", "-O", "file-pcapng")
    assert "Malformed" not in text
    return text.split("\n    Block: ")[1:]


def options(block: str) -> dict[str, str]:
    """Map names to values of a block's options."""
    lines = [line.strip() for line in block.splitlines()]
    pairs = [line.removeprefix("Option: ") for line in lines if line.startswith("Option: ")]
    return dict(pair.partition(" = ")[::2] for pair in pairs)


def rotated(path: Path) -> Sequence[Path]:
    """Return a file and those that it was rotated to, the newest last."""
    others = sorted(each for each in path.parent.iterdir() if each != path)
    return [*others, path]
