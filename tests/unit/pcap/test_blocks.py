"""Blocks of pcapng, read back by scapy, libpcap and Wireshark."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibpcap.pcap import rpcap
from scapy.layers import inet, l2
from scapy.utils import PcapNgReader, RawPcapNgReader

from pypwru.pcap.blocks import Counters, interface_statistics
from pypwru.pcap.frame import ETHERNET, RAW, PcapFrame
from pypwru.pcap.packet import BlockBuffer, Device, InterfaceInfo, PcapPacket
from pypwru.pcap.pcapng import PcapNgFile, RunInfo
from tests.support.pcaps import EPOCH, FRAME, IP, blocks, fields, options, tool

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
LOOPBACK, NAMELESS = Device(1, 1, 1, "lo"), Device(1, 1, 2, "")
DEVICES = (LOOPBACK, NAMELESS, Device(1, 1, 3, "\u00e9th\U0001f600"), Device(2, 2, 1, "lo"))
RUN = RunInfo("x86_64", "Linux 7.2", "pypwru 1", "pypwru icmp", "icmp", 70000)
PACKET = PcapPacket(
    time=EPOCH,
    frame=PcapFrame(ETHERNET, FRAME, len(FRAME)),
    device=LOOPBACK,
    comment=b"func=ip_rcv",
    flags=0,
    packet_number=0,
    lost_before=0,
    queue=0,
)
MICROSECOND = timedelta(microseconds=1)
LONGEST = 65535  # bytes of an option's value


def describe(device: Device) -> InterfaceInfo:
    return InterfaceInfo(device.ifname, f"ifindex {device.ifindex}")


def written(packets: Sequence[PcapPacket], run: RunInfo = RUN, now: int = EPOCH) -> bytes:
    """A whole file."""
    buffer = BlockBuffer()
    file = PcapNgFile(buffer, run, describe, wall=lambda: now)
    file.begin()
    max_size = buffer.size
    for packet in packets:
        max_size = buffer.size + file.max_growth(packet)
        file.add(packet)
    file.end(0)
    assert buffer.size <= max_size
    content = b"".join(buffer.take())
    assert len(content) == buffer.size
    return content


def raw(content: bytes) -> list[tuple[bytes, Any]]:
    with closing(RawPcapNgReader(io.BytesIO(content))) as reader:
        return list(reader)


@pytest.fixture(autouse=True)
def scapy_has_nothing_to_complain_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    complaints: list[tuple[object, ...]] = []
    monkeypatch.setattr("scapy.utils.warning", lambda *message, **more: complaints.append(message))
    yield
    assert complaints == []


PACKETS = st.lists(
    st.builds(
        PcapPacket,
        time=st.integers(0, U64),
        frame=st.builds(
            PcapFrame,
            linktype=st.sampled_from((ETHERNET, RAW)),
            data=st.binary(max_size=9) | st.sampled_from((FRAME, IP, bytes(60000))),
            length=st.integers(0, U32),
        ),
        device=st.sampled_from(DEVICES),
        comment=st.text(max_size=9).map(str.encode),
        flags=st.integers(0, U32),
        packet_number=st.integers(0, U64),
        lost_before=st.integers(0, 1 << 32),
        queue=st.integers(0, U32),
    ),
    max_size=12,
)
RUNS = st.builds(
    RunInfo,
    hardware=st.text(max_size=5),
    system=st.text(max_size=5),
    application=st.text(max_size=5),
    command=st.text(max_size=5),
    filter=st.text(max_size=5),
    snaplen=st.integers(60000, U32),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets=PACKETS, run=RUNS)
def test_scapy_reads_what_was_written(packets: list[PcapPacket], run: RunInfo) -> None:
    found = raw(written(packets, run))
    assert [
        (octets, seen.linktype, seen.wirelen, seen.tshigh << 32 | seen.tslow, seen.tsresol)
        for octets, seen in found
    ] == [
        (packet.frame.data, packet.frame.linktype, packet.frame.length, packet.time, 10**9)
        for packet in packets
    ]
    assert [(seen.comments, seen.direction, seen.ifname) for _, seen in found] == [
        ([packet.comment], packet.flags & 3, packet.device.ifname.encode() or None)
        for packet in packets
    ]


def test_scapys_packets_have_time_interface_and_comment() -> None:
    inbound, outbound = 1, 2
    packets = [
        PACKET._replace(flags=inbound),
        PACKET._replace(frame=PcapFrame(RAW, IP, 1500), time=1, device=DEVICES[2], flags=outbound),
    ]
    with closing(PcapNgReader(io.BytesIO(written(packets)))) as reader:
        first, second = list(reader)
    assert (type(first), bytes(first)) == (l2.Ether, FRAME)
    assert (type(second), bytes(second)) == (inet.IP, IP)
    assert [int(each.time * 10**9) for each in (first, second)] == [EPOCH, 1]
    assert [each.sniffed_on for each in (first, second)] == ["lo", DEVICES[2].ifname]
    assert [each.direction for each in (first, second)] == [inbound, outbound]
    assert [each.wirelen for each in (first, second)] == [len(FRAME), 1500]
    assert [each.comments for each in (first, second)] == [[b"func=ip_rcv"]] * 2


def test_libpcap_reads_the_same_packets(tmp_path: Path) -> None:
    path = tmp_path / "some.pcapng"
    contents = [FRAME[:size] for size in range(len(FRAME) + 1)]
    path.write_bytes(
        written([PACKET._replace(frame=PcapFrame(ETHERNET, data, 1500)) for data in contents])
    )
    assert [octets for _, _, octets in rpcap(str(path))] == contents


def test_wireshark_reads_the_greatest_numbers(tmp_path: Path) -> None:
    path = tmp_path / "great.pcapng"
    # Without reserved ones, and without a frame check sequence, with which the packet would end.
    flags = U32 & ~0xF000 & ~0x1E0
    great = PACKET._replace(packet_number=U64 - 1, lost_before=U64 - 2, queue=U32 - 3, flags=flags)
    path.write_bytes(written([great, PACKET]))
    names = ("packet_id", "drop_count", "interface_queue", "packet_flags")
    assert fields(path, *(f"frame.{name}" for name in names)) == [
        [str(U64 - 1), str(U64 - 2), str(U32 - 3), f"0x{flags:08x}"],
        ["0", "0", "0", "0x00000000"],
    ]


def test_wireshark_reads_the_statistics(tmp_path: Path) -> None:
    path = tmp_path / "statistics.pcapng"
    lost = (1 << 40) + 1
    path.write_bytes(written([PACKET._replace(lost_before=lost)], now=EPOCH + 10**9))
    (block,) = [each for each in blocks(path) if each.startswith("Interface Statistics")]
    assert {
        name: int(value) for name, value in options(block).items() if name.startswith("Number of")
    } == {
        "Number of Received Packets": lost + 1,
        "Number of Dropped Packets": lost,
        "Number of Accepted Packets": lost + 1,
        "Number of Packets Dropped by OS": lost,
        "Number of Packets Delivered to the User": 1,
    }
    assert "[Timestamp: Nov 18, 2026 11:06:41.000000123 UTC]" in block


def test_times_of_statistics_are_as_in_the_draft() -> None:
    """Its examples of isb_starttime and isb_endtime, which no reader at hand shows."""
    times = [
        datetime(2012, 6, 29, 6, 17, 0, 834163, timezone.utc),
        datetime(2012, 6, 29, 7, 28, 25, 298858, timezone.utc),
    ]
    start, end = ((time - datetime.fromtimestamp(0, timezone.utc)) // MICROSECOND for time in times)
    block = interface_statistics(0, Counters(0, 0, 0, 0, 0), start=start, end=end)
    examples = "0200 0800 96c30400 73896a65", "0300 0800 97c30400 aa47ca64"
    assert b"".join(map(bytes.fromhex, examples)) in block


@pytest.mark.parametrize("start", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("character", ["y", "\u00e9", "\u20ac", "\U0001f600"])
def test_a_text_that_is_too_long_is_cut_behind_a_character(
    tmp_path: Path, start: str, character: str
) -> None:
    """The format takes valid UTF-8 only (section 3.6.3)."""
    path = tmp_path / "long.pcapng"
    text = start + character * LONGEST
    long = PACKET._replace(comment=text.encode(), device=Device(1, 1, 1, text))
    path.write_bytes(written([long, PACKET], RUN._replace(command=text, filter=text)))
    (_, seen), (_, after) = raw(path.read_bytes())
    assert (after.comments, after.ifname) == ([PACKET.comment], b"lo")
    for found in (*seen.comments, seen.ifname):
        assert text.startswith(found.decode()) and len(found) > LONGEST - 8
    (comment,) = [
        line.partition(":")[2].strip()
        for line in tool("capinfos", path).splitlines()
        if line.startswith("Capture comment:")
    ]
    assert text.startswith(comment) and len(comment.encode()) > LONGEST - 8
