"""pcapng and classic pcap, as other programs read them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibpcap.pcap import rpcap
from scapy.utils import RawPcapNgReader, RawPcapReader

from pypwru import __version__
from pypwru.discovery.targets import Targets
from pypwru.pcap.frame import make_frame
from pypwru.pcap.packet_data import PacketCapture
from pypwru.pcap.writer import open_pcap
from pypwru.wire import fields as wire_fields
from tests.support import records
from tests.support.pcaps import (
    ARP,
    COMMAND,
    EPOCH,
    FRAME,
    IP,
    IP6,
    IPV4,
    IPV6,
    NEVER,
    QUIET,
    REQUEST,
    Pair,
    QueuedCaptures,
    Writer,
    blocks,
    capture_options,
    captured,
    captured_event,
    fields,
    make_output,
    options,
    tool,
    write,
)
from tests.support.records import BLUE, HOST, NO_SOCKET, configured, tail

TIME = f"{EPOCH // 10**9}.{EPOCH % 10**9:09}"
HOST_TEXT = f"network namespace (inode {HOST})"


def golden(folder: Path, flags: str = "", suffix: str = "pcapng") -> Path:
    """Write a file with packets of each kind."""
    path = folder / f"golden.{suffix}"
    config = configured(f"--output-pcap {path} --pcap-when every")
    with_rule = tail(config, nft=records.nft(12))
    second, third = (tail(config, packet_id=number.to_bytes(8, "little")) for number in (2, 3))
    pairs: list[Pair] = [
        (
            captured_event(2, 1, 0, protocol=0, ifindex=0),
            captured(IP, layer=3, first=True, device=0xFFFF),
        ),
        (captured_event(7, 1, 1, ifindex=3), captured(FRAME, tag=0x81000005, queue=3, dropped=2)),
        (
            captured_event(6, 2, 2, netns=BLUE, protocol=IPV6)._replace(tail=second),
            captured(IP6, layer=3, first=True, type=2),
        ),
        (
            captured_event(8, 3, 3, protocol=ARP)._replace(tail=third),
            captured(REQUEST, layer=3, first=True, type=1),
        ),
        (
            captured_event(5, 1, 4, NO_SOCKET, ifindex=3)._replace(tail=with_rule),
            captured(FRAME[:30], len(FRAME), dropped=1),
        ),
    ]
    write(f"--output-pcap {path} --pcap-when every {flags}", pairs[:3], [], pairs[3:])
    return path


def test_tshark_reads_packet_metadata(tmp_path: Path) -> None:
    found = fields(
        golden(tmp_path), "frame.time_epoch", "frame.interface_name", "frame.packet_flags",
        "frame.packet_id", "frame.drop_count", "frame.interface_queue", "frame.cap_len",
        "frame.len", "frame.protocols", "vlan.id", "frame.comment",
    )  # fmt: skip
    times = [f"{TIME[:-1]}{int(TIME[-1]) + after}" for after in range(5)]
    assert [row[0] for row in found] == times
    start = "process=/usr/bin/ping pid=7 cpu=0 netns"
    assert [row[1:] for row in found] == [
        [
            f"{HOST_TEXT}, no device", "0x00000002", "1", "0", "0", "20", "20", "raw:ip", "",
            f"func=__ip_local_out skb=0x1 {start}={HOST} type=function_call",
        ],
        [
            "veth0", "0x00000002", "1", "2", "3", "38", "38", "eth:ethertype:vlan:ethertype:ip",
            "5", f"func=veth_xmit[veth] skb=0x1 {start}={HOST} iface=veth0 type=function_call",
        ],
        [
            "averlongname123", "0x00000009", "2", "0", "0", "40", "40", "raw:ipv6", "",
            f"func=ipv6_rcv skb=0x2 {start}={BLUE} netns_name=blue iface=averlongname123 "
            "type=function_call",
        ],
        [
            "eth0", "0x0000000d", "3", "0", "0", "42", "42", "eth:ethertype:arp", "",
            f"func=arp_rcv skb=0x3 {start}={HOST} iface=eth0 type=function_call",
        ],
        [
            "veth0", "0x00000000", "1", "1", "0", "30", "34", "eth:ethertype:ip", "",
            f"func=sk_skb_reason_drop skb=0x1 {start}={HOST} iface=veth0 type=drop "
            "drop_reason=SKB_DROP_REASON_NO_SOCKET nft.chain=\"inet filter input\" "
            "nft.rule=\"#12 drop\" nft.verdict=drop",
        ],
    ]  # fmt: skip


def test_section_and_interfaces(tmp_path: Path) -> None:
    section, *others = blocks(golden(tmp_path, "--pcap-snaplen 100 tcp port 80"))
    system = os.uname()
    assert options(section) == {
        "Hardware Description": system.machine,
        "OS Description": f"{system.sysname} {system.release} {system.version}",
        "User Application": f"pypwru {__version__}",
        "Comment": COMMAND,
        "End of Options": "",
    }
    interfaces = [block for block in others if block.startswith("Interface Description")]
    assert [options(block)["Interface Description"] for block in interfaces] == [
        f"{HOST_TEXT}, no device",
        f"{HOST_TEXT}, ifindex 3",
        f"network namespace blue (inode {BLUE}), ifindex 2",
        f"{HOST_TEXT}, ifindex 2",
    ]
    for block, link in zip(interfaces, ("RAW", "ETHERNET", "RAW", "ETHERNET"), strict=True):
        assert f"Link Type: {link}" in block and "Snap Length: 100" in block
        assert options(block)["Filter"].endswith("tcp port 80")
        assert "9" in options(block)["Timestamp Resolution"]
    # Each is just before its first packet.
    kinds = "".join(block[0] if block[0] in "E" else block.split()[1][0] for block in others)
    assert kinds == "DEDEDEDEESSSS"


def test_statistics_of_each_interface(tmp_path: Path) -> None:
    found = blocks(golden(tmp_path))[-4:]
    counts = [
        [
            int(options(block)[f"Number of {what}"])
            for what in (
                "Received Packets",
                "Dropped Packets",
                "Accepted Packets",
                "Packets Dropped by OS",
                "Packets Delivered to the User",
            )
        ]
        for block in found
    ]
    assert counts == [[1, 0, 1, 0, 1], [5, 3, 5, 3, 2], [1, 0, 1, 0, 1], [1, 0, 1, 0, 1]]
    assert all({"Start Time", "End Time"} <= options(block).keys() for block in found)


def test_statistics_include_final_losses(tmp_path: Path) -> None:
    path = tmp_path / "lost.pcapng"
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack)
        writer.show((captured_event(3, 1, 1), captured(first=True, dropped=3)))
        writer.output.close(writer.lost + 4)
    statistics = options(blocks(path)[-1])
    assert statistics["Number of Dropped Packets"] == "7"
    assert statistics["Number of Received Packets"] == "8"


def test_capinfos_reads_pcapng(tmp_path: Path) -> None:
    report = tool("capinfos", golden(tmp_path))
    assert "Number of packets:   5\n" in report
    assert "nanoseconds (9)" in report
    assert report.count("Number of stat entries = 1\n") == 4
    assert "Strict time order:   True" in report


def test_last_event_is_written(tmp_path: Path) -> None:
    path = tmp_path / "last.pcapng"
    flags = f"--output-pcap {path} --pcap-when last"
    write(
        flags,
        [
            (captured_event(3, 1, 1), captured(dropped=3)),
            (captured_event(3, 1, 2), captured(dropped=4)),
        ],
    )
    (row,) = fields(path, "frame.time_epoch", "frame.drop_count")
    assert row == [f"{TIME[:-1]}5", "7"]


def test_hostile_names_and_arguments(tmp_path: Path) -> None:
    """They need not be UTF-8, and may be long."""
    path = tmp_path / "x.pcapng"
    with ExitStack() as stack:
        config = configured(f"--output-pcap {path}")
        options_given = capture_options(config, "x \udcff" + "y" * 70000)
        opened, taken = open_pcap(options_given, NEVER, QUIET, stack), QueuedCaptures()
        output = make_output(config, opened, records.names(), Targets(), taken)
        output.begin()
        record = captured_event(ifname="e\udcfe\n")._replace(tail=tail(config))
        taken.waiting.append((record, captured(first=True)))
        output.show([record])
        output.close(0)
    assert options(blocks(path)[0])["Comment"].startswith("x \ufffdyyy")
    (row,) = fields(path, "frame.interface_name", "frame.comment")
    assert 'iface="e\\xfe\\n"' in row[1].replace("\\\\", "\\")


OCTETS = st.sampled_from((b"", IP, IP6, FRAME, REQUEST, b"\x45", FRAME[:13])) | st.binary(
    max_size=200
)
CAPTURED = st.builds(
    PacketCapture,
    data=OCTETS,
    length=st.just(0),
    vlan_tag=st.sampled_from((0, 0x81000005, 0x88A80001)),
    device_type=st.sampled_from((1, 772, 0xFFFF)),
    queue=st.integers(0, 0xFFFF),
    layer=st.sampled_from((2, 3)),
    pkt_type=st.integers(0, 7),
    is_first=st.booleans(),
    lost_before=st.integers(0, 1 << 32),
)
PAIRS = st.lists(
    st.tuples(
        st.builds(
            captured_event,
            function=st.sampled_from((1, 3, 5, 7, 99)),
            skb=st.integers(0, 3),
            ktime=st.integers(0, 1 << 60),
            reason=st.sampled_from((0, 1, NO_SOCKET)),
            netns=st.sampled_from((0, HOST, BLUE)),
            ifindex=st.integers(0, 3),
            protocol=st.sampled_from((0, IPV4, IPV6, ARP)),
        ),
        st.tuples(CAPTURED, st.integers(0, 3000)).map(
            lambda pair: pair[0]._replace(length=len(pair[0].data) + pair[1])
        ),
    ),
    max_size=12,
)
HERE = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HERE
@given(pairs=PAIRS, snaplen=st.sampled_from((1, 33, 262144)))
def test_scapy_reads_pcapng(tmp_path: Path, pairs: list[Pair], snaplen: int) -> None:
    path = tmp_path / "some.pcapng"
    write(f"--output-pcap {path} --pcap-when every --pcap-snaplen {snaplen}", pairs)
    with closing(RawPcapNgReader(str(path))) as reader:
        found = list(reader)
    assert len(found) == len(pairs)
    for (octets, metadata), (record, capture) in zip(found, pairs, strict=True):
        assert capture
        protocol = wire_fields.decode_flow(record.flow).protocol
        expected = make_frame(capture, protocol, snaplen)
        assert (metadata.linktype, octets, metadata.wirelen) == expected
        assert (metadata.tshigh << 32 | metadata.tslow, metadata.tsresol) == (
            EPOCH + record.ktime,
            10**9,
        )


@HERE
@given(pairs=PAIRS, snaplen=st.sampled_from((1, 33, 262144)))
def test_scapy_and_libpcap_read_classic_pcap(
    tmp_path: Path, pairs: list[Pair], snaplen: int
) -> None:
    path = tmp_path / "some.pcap"
    write(f"--output-pcap {path} --pcap-when every --pcap-snaplen {snaplen}", pairs)
    with closing(RawPcapReader(str(path))) as reader:
        assert (reader.linktype, reader.snaplen, reader.nano) == (1, snaplen, True)
        found = list(reader)
    frames = [
        make_frame(
            capture, wire_fields.decode_flow(record.flow).protocol, snaplen, always_ethernet=True
        )
        for record, capture in pairs
        if capture
    ]
    times = [divmod(EPOCH + record.ktime, 10**9) for record, _ in pairs]
    assert [octets for octets, _ in found] == [each.data for each in frames]
    assert [metadata.wirelen for _, metadata in found] == [each.length for each in frames]
    assert [(metadata.sec, metadata.usec) for _, metadata in found] == times
    assert [octets for _, _, octets in rpcap(str(path))] == [each.data for each in frames]


def test_bytes_of_classic_pcap(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    pair = (captured_event(protocol=ARP, ktime=1), captured(REQUEST, 40, layer=3, first=True))
    write(f"--output-pcap {path} --pcap-snaplen 30", [pair])
    frame = bytes(12) + b"\x08\x06" + REQUEST[:16]
    second, nanosecond = divmod(EPOCH + 1, 10**9)
    assert (
        path.read_bytes()
        == struct.pack("<IHHiIII IIII", 0xA1B23C4D, 2, 4, 0, 0, 30, 1, second, nanosecond, 30, 54)
        + frame
    )


def test_tools_read_classic_pcap(tmp_path: Path) -> None:
    path = golden(tmp_path, suffix="pcap")
    assert [row[0] for row in fields(path, "frame.protocols")] == [
        "eth:ethertype:ip",
        "eth:ethertype:vlan:ethertype:ip",
        "eth:ethertype:ipv6",
        "eth:ethertype:arp",
        "eth:ethertype:ip",
    ]
    report = tool("capinfos", path)
    assert "Wireshark/tcpdump/... - nanosecond pcap" in report
    assert "Number of packets:   5\n" in report


def test_empty_file_is_valid(tmp_path: Path) -> None:
    for suffix in ("pcap", "pcapng"):
        path = tmp_path / f"none.{suffix}"
        write(f"--output-pcap {path}", [(captured_event(), None)])
        assert "Number of packets:   0\n" in tool("capinfos", path)


@pytest.mark.parametrize(("suffix", "is_loaded"), [("pcapng", False), ("pcap", True)])
def test_only_classic_pcap_imports_scapy(tmp_path: Path, suffix: str, is_loaded: bool) -> None:
    script = (
        "import sys; import pypwru.cli.run; print('scapy' in sys.modules); "
        "from tests.support.pcaps import FRAME, captured, captured_event, write\n"
        "print('scapy' in sys.modules)\n"
        "write(sys.argv[1], [(captured_event(), captured(FRAME, first=True))])\n"
        "print('scapy' in sys.modules)"
    )
    path = tmp_path / f"x.{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", script, f"--output-pcap {path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False", str(is_loaded)]
    assert "Number of packets:   1\n" in tool("capinfos", path)
