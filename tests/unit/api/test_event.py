"""Events have the values of the JSON objects of the same records; and their packets."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pypwru.api.build_events import COLUMN_FIELDS, EventBuilder
from pypwru.api.event import Event
from pypwru.api.options import make_config
from pypwru.config import Config
from pypwru.names.clock import Clock
from pypwru.names.event_names import NameResolver
from pypwru.output.columns import COLUMNS, truncate
from pypwru.output.json import JsonFormatter
from pypwru.output.printer import Printer
from pypwru.output.tuples import FiveTuple
from pypwru.pcap.packet_data import PacketCapture
from pypwru.pcap.select import TakeData
from pypwru.wire.record import RawRecord, Record
from tests.support import records
from tests.support.layouts import columns_of, layout_of
from tests.support.records import (
    BLUE,
    LOOPBACK,
    MAP_CALL,
    NFT_CHAIN_ENTRY,
    NFT_RULE,
    NO_SOCKET,
    POLICY,
    TC,
    TCP,
    XDP,
    Ends,
    event,
    flow,
    packet,
    tail,
)  # fmt: skip

V6: Ends = (6, TCP, bytes(15) + b"\1", bytes(15) + b"\2", 443, 50000)
V4: Ends = (4, TCP, LOOPBACK, LOOPBACK, 1, 2)
NO_IP: Ends = (0, 0, b"", b"", 0, 0)
SECOND = 1_000_000_000


def config_of(**options: object) -> Config:
    return make_config("", False, options)


def with_tails(config: Config, batch: list[Record]) -> list[Record]:
    """Return the records with all parts of the tail, zero unless given."""
    return [one._replace(tail=one.tail or tail(config)) for one in batch]


def json_objects(config: Config, names: NameResolver, batch: list[Record]) -> list[dict[str, Any]]:
    """Return the JSON objects of a batch."""
    written: list[bytes] = []
    printer = Printer(JsonFormatter(columns_of(config)), names, written.extend, layout_of(config))
    printer.show(with_tails(config, batch))
    return [json.loads(line) for line in written]


def builder_of(
    config: Config,
    names: NameResolver,
    get_packet_data: TakeData | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> EventBuilder:
    layout, shown, snaplen = layout_of(config), columns_of(config), config.pcap_snaplen
    return EventBuilder(layout, shown, names, get_packet_data, snaplen=snaplen, monotonic=monotonic)


def events(config: Config, names: NameResolver, batch: list[Record]) -> list[Event]:
    return list(builder_of(config, names).build(with_tails(config, batch)))


def json_tuple(five_tuple: FiveTuple | None) -> dict[str, object]:
    if five_tuple is None:
        return {}
    saddr, daddr = (
        f"[{one}]" if five_tuple.l3 == 6 else one for one in (five_tuple.saddr, five_tuple.daddr)
    )
    found = {
        "saddr": saddr,
        "daddr": daddr,
        "sport": five_tuple.sport,
        "dport": five_tuple.dport,
        "proto": five_tuple.l4,
    }
    return found | ({"flags": five_tuple.flags} if five_tuple.flags else {})


def json_func(found: Event) -> str:
    """Return the value of JSON's ``func``; with a reason in parentheses only for a drop."""
    suffix = {"tc": "(tc)", "xdp": "(xdp)"}.get(found.type, "")
    if found.drop_reason:
        suffix = (
            f" ({found.drop_reason})" if found.drop_reason.isdigit() else f"({found.drop_reason})"
        )
    return found.func + suffix


def as_json(found: Event) -> dict[str, object]:
    """Return the JSON object that has the values of an event."""
    result: dict[str, object] = {
        "skb": hex(found.skb),
        "packet_id": found.packet_id,
        "cpu": found.cpu,
        "process": truncate(f"{found.process}:{found.pid}")
        if found.process
        else f"<empty>:{found.pid}",
        "func": json_func(found),
        "type": found.type,
        "caller_func": found.caller,
        "nft": found.nft,
        "netns": found.netns,
        "mark": found.mark,
        "iface": truncate(f"{found.iface}:{found.ifindex}") if found.iface else str(found.ifindex),
        "proto": found.proto,
        "mtu": found.mtu,
        "len": found.len,
        "cb": found.cb,
        "tuple": json_tuple(found.tuple),
        "ct": found.ct,
        "stack": "".join(f"\n{name}" for name in found.stack or ()) or None,
        "skb_metadata": f"\n{found.skb_metadata}" if found.skb_metadata else None,
        "skb_shared_info": f"\n{found.skb_shared_info}" if found.skb_shared_info else None,
        "skb_members": found.skb_members,
        "xdp_members": found.xdp_members,
    }
    if found.bpfmap:
        octets = {"key": found.bpfmap.key.hex(), "value": found.bpfmap.value.hex()}
        result["bpfmap"] = found.bpfmap._asdict() | octets
    if found.tunnel:
        result["tunnel_tuple"] = json_tuple(found.tunnel)
    present = {name: value for name, value in result.items() if value is not None}
    parsed: dict[str, object] = json.loads(json.dumps(present))
    return parsed


PLAIN = [
    event(packet(0xFF00, 1, 7), 1, flow(ifindex=1)),
    event(packet(0xFF00, 1, 0), 5, flow(ends=V4, flags=0x12), 5, NO_SOCKET),
    event(packet(0xFF01, 1, 7), 5, flow(netns=BLUE, ifindex=2), 5, 70000),
    event(packet(0xFF02, 3, 7), 7, flow(ends=V6, mark=5, protocol=0x86DD, mtu=1, size=0)),
    event(packet(0xFF02, 3, 7), 8, flow(ends=NO_IP, protocol=0x0806)),
]
NFT_PARTS = [
    (NFT_RULE, records.nft(12, path=(1, 2), chain=3), 5),
    (NFT_CHAIN_ENTRY, records.nft(0, type=0), 5),
    (0, records.nft(0, type=POLICY), 5),
    (0, records.nft(13), 5),
    (0, records.nft(13), 2 * SECOND),
    (0, b"", 0),
]


def nft_records(config: Config) -> list[Record]:
    return [
        event(packet(1, 0, 7, kind), 3, flow(), at,
              tail=tail(config, nft=part, nft_time=records.nft_time(at)))
        for kind, part, at in NFT_PARTS
    ]  # fmt: skip


def compare_with_json(config: Config, batch: list[Record], exited: bool = False) -> list[Event]:
    """Return the events of a batch, after comparing them with its JSON objects."""
    names = records.names(
        lambda pid, comm, start_stack: "" if exited or not pid else "/usr/bin/curl"
    )
    found = events(config, names, batch)
    written = json_objects(config, names, batch)
    for one in written:  # None in an event is either no value or no option
        for name in ("tunnel_tuple", "skb_metadata"):
            if not one.get(name, True):
                del one[name]
    assert [as_json(one) for one in found] == written
    return found


@pytest.mark.parametrize("exited", [False, True])
def test_plain_run(exited: bool) -> None:
    first, drop, other, v6, arp = compare_with_json(config_of(output_nft=False), PLAIN, exited)
    assert (first.type, first.drop_reason, first.iface) == ("function_call", None, "lo")
    assert (drop.func, drop.type) == ("sk_skb_reason_drop", "drop")
    assert drop.drop_reason == "SKB_DROP_REASON_NO_SOCKET"
    assert drop.tuple and (drop.tuple.protocol, drop.tuple.flags) == ("tcp", "SYN|ACK")
    assert other.drop_reason == "70000"
    assert (other.iface, other.netns_name) == ("averlongname123", "blue")
    assert (v6.func, v6.iface, v6.netns_name) == ("veth_xmit[veth]", None, None)
    assert v6.tuple and (v6.tuple.saddr, v6.tuple.sport) == ("::1", 443)
    assert arp.tuple is None
    assert drop.process == ""
    assert first.process == ("" if exited else "/usr/bin/curl")


def test_exited_process_has_comm() -> None:
    one = event(packet(1, 0, 7, comm=b"curl"), 1, flow())
    (found,) = compare_with_json(config_of(output_nft=False), [one], exited=True)
    assert (found.comm, found.process) == ("curl", "curl")


def test_nftables() -> None:
    config = config_of()
    rule, entered, _, _, late, nothing = compare_with_json(config, nft_records(config))
    assert rule.nft and rule.nft["text"] == 'tcp dport 8443 counter drop comment "no web"'
    assert (rule.type, entered.type) == ("nft_rule", "nft_chain")
    assert late.nft and late.nft["text"] is None
    assert nothing.nft is None


def test_reason_without_drop_is_in_json_only() -> None:
    """It is an argument of the function, not the reason of a drop."""
    config = config_of(output_nft=False)
    batch = [event(packet(1, 0, 7), 5, flow(), 0, reason) for reason in (0, 1)]
    for one, written in zip(
        events(config, records.names(), batch),
        json_objects(config, records.names(), batch),
        strict=True,
    ):
        assert (one.func, one.type, one.drop_reason) == (
            "sk_skb_reason_drop", written["type"], None,
        )  # fmt: skip
        assert written["func"].startswith("sk_skb_reason_drop(SKB_")


def test_all_options() -> None:
    config = config_of(
        output_skb_cb=True, output_tunnel=True, output_caller=True, output_ct=True,
        output_stack=True, output_skb=True, output_skb_shared_info=True, output_bpfmap=True,
        filter_trace_tc=True, filter_trace_xdp=True, filter_track_bpf_helpers=True,
        output_skb_metadata=["skb->len"], output_xdp_metadata="xdp->x",
    )  # fmt: skip
    frames = [0xFFFFFFFF81000010, 0xFFFFFFFF81000020]
    parts: list[dict[str, bytes]] = [
        {"caller": records.caller(0xFFFFFFFF81000030), "stack": records.stack(*frames)},
        {"cb": records.cb(1, 2, 3, 4, 5), "tunnel": records.tunnel(V6, 2)},
        {"skb": b"(struct sk_buff){\n}\n", "shinfo": b"(struct skb_shared_info){\n}\n"},
        {"map": records.bpf_map(3, b"flows", b"\1\2", b"\3")},
        {"metadata": records.metadata(98, 5)},
    ]
    kinds = [(0, 1), (0, 2), (TC, 11), (MAP_CALL, 13), (XDP, 12)]
    number = (5).to_bytes(8, "little")
    batch = [
        event(packet(1, 0, 7, kind), function, flow(), tail=tail(config, packet_id=number, **part))
        for (kind, function), part in zip(kinds, parts, strict=True)
    ]
    one, two, three, four, five = compare_with_json(config, batch)
    assert {event.packet_id for event in (one, two, three, four, five)} == {5}
    assert one.caller == "ip_push_pending_frames"
    assert one.stack == ("__netif_receive_skb_one_core", "__ip_local_out")
    assert two.cb == (1, 2, 3, 4, 5)
    assert two.tunnel and two.tunnel.saddr == "::1"
    assert three.skb_metadata and three.skb_metadata.startswith("(struct sk_buff)")
    assert (three.type, three.func) == ("tc", "bpf_prog_f7c8a1f24a6b4746_tc_dummy_prog[bpf]")
    assert four.bpfmap and (four.bpfmap.name, four.bpfmap.key) == ("flows", b"\1\2")
    assert five.xdp_members == {"queue_index": 98}
    assert two.bpfmap is None and two.stack == ()


def test_every_column_is_an_event_field() -> None:
    times = {"time", "timestamp"}
    other = {"func", "type", "skb", "cpu", "process", "netns", "mark", "iface", "proto", "mtu",
             "len", "netns_name", "tuple"}  # fmt: skip
    assert {column.name for column in COLUMNS} - times == other | {
        more.column for more in COLUMN_FIELDS.values()
    }
    members = [field.name for field in dataclasses.fields(Event)]
    assert other <= set(members)
    assert members[members.index("wall_ns") + 1 :] == [*COLUMN_FIELDS, "captured"]


def test_times() -> None:
    names = records.names(clock=Clock(lambda: 1000))
    config = config_of(output_nft=False)
    (found,) = events(config, names, [event(packet(1, 0, 7), 1, flow(), 234)])
    assert (found.time_ns, found.wall_ns) == (234, 1234)


def test_event_is_immutable_and_comparable() -> None:
    first, *_ = events(config_of(output_nft=False), records.names(), PLAIN)
    again, *_ = events(config_of(output_nft=False), records.names(), PLAIN)
    assert first == again and first is not again
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.skb = 1  # type: ignore[misc]
    assert (first.packet, first.data, first.linktype) == (None, None, None)


def test_names_are_cached_for_a_second() -> None:
    now, program = 10.0, "/bin/old"
    config = config_of(output_nft=False)
    builder = builder_of(
        config, records.names(lambda pid, comm, start_stack: program), monotonic=lambda: now
    )
    batch = with_tails(config, PLAIN[:1])
    found = [one.process for one in builder.build(batch)]
    program = "/bin/new"
    found += [one.process for one in builder.build(batch)]
    now += 1
    found += [one.process for one in builder.build(batch)]
    assert found == ["/bin/old", "/bin/old", "/bin/new"]
    assert builder.count == 3


def test_build_counts_consumed_events() -> None:
    config = config_of(output_nft=False)
    builder = builder_of(config, records.names())
    iterator = builder.build(with_tails(config, PLAIN))
    next(iterator)
    assert builder.count == 1
    assert list(builder.build([])) == []


class PacketData:
    """Packet data by the address of the skb."""

    def __init__(self, **captured: PacketCapture) -> None:
        self.captured = {int(name[1:]): one for name, one in captured.items()}

    def take(self, record: RawRecord) -> PacketCapture | None:
        return self.captured.get(int.from_bytes(record[0][:8], "little"))


def captured(octets: bytes, layer: int = 2, tag: int = 0, more: int = 0) -> PacketCapture:
    return PacketCapture(octets, len(octets) + more, tag, 1, 0, layer, 0, False, 0)


def test_packets() -> None:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import UDP, IPv6
    from scapy.layers.l2 import ARP, Dot1Q, Ether

    ping = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(dst="127.0.0.1") / ICMP()
    datagram = IPv6(dst="::1") / UDP(sport=1, dport=2) / b"data"
    captures = PacketData(
        _1=captured(bytes(ping), tag=0x8100 << 16 | 10),
        _2=captured(bytes(ping[IP]), 3),
        _3=captured(bytes(datagram), 3, more=7),
        _4=captured(bytes(ARP()), 3),
        _5=captured(b"", 0),
    )
    protocols = {3: 0x86DD, 4: 0x0806}
    batch = [
        event(packet(skb, 0, 7), 1, flow(ifindex=1, protocol=protocols.get(skb, 0x0800)), 5)
        for skb in range(1, 7)
    ]
    config = make_config("", True, {"output_nft": False})
    plain = config._replace(packets=False)  # no part of the tail for packet data
    names = records.names(clock=Clock(lambda: 1_700_000_000 * SECOND))
    tagged, v4, v6, arp, nothing, lost = builder_of(plain, names, captures.take).build(
        with_tails(plain, batch)
    )

    assert tagged.packet is tagged.packet
    assert tagged.packet and v4.packet and v6.packet and arp.packet
    assert tagged.packet.haslayer(Dot1Q) and tagged.packet[Dot1Q].vlan == 10
    assert bytes(tagged.packet[IP]) == bytes(ping[IP])
    assert (tagged.linktype, tagged.packet.wirelen) == (1, len(ping) + 4)
    assert tagged.packet.sniffed_on == "lo"
    assert int(tagged.packet.time * SECOND) == tagged.wall_ns == 1_700_000_000 * SECOND + 5
    assert type(v4.packet) is IP and v4.packet.summary() == ping[IP].summary()
    assert (v4.data, v4.linktype) == (bytes(ping[IP]), 101)
    assert type(v6.packet) is IPv6 and v6.packet[UDP].dport == 2
    assert v6.packet.wirelen == len(datagram) + 7
    assert type(arp.packet) is Ether and arp.packet.haslayer(ARP)
    assert nothing.packet is None and lost.data is None
    assert v6.length == len(datagram) + 7 and nothing.length is None


def test_snaplen_truncates_data() -> None:
    from scapy.layers.inet import IP

    octets = bytes(IP(dst="127.0.0.1") / (b"x" * 100))
    config = make_config("", False, {"output_nft": False, "pcap_snaplen": 30})
    builder = builder_of(config, records.names(), PacketData(_1=captured(octets, 3)).take)
    (found,) = builder.build(with_tails(config, [event(packet(1, 0, 7), 1, flow())]))
    assert found.data == octets[:30]
    assert found.packet and found.packet.wirelen == len(octets)


def test_repr_is_short() -> None:
    config = config_of(output_nft=False)
    record = event(packet(1, 2, 7), 3, flow(ends=V4, ifindex=2), 5, tail=tail(config))
    (shown,) = events(config, records.names(), [record])
    parts = ("<Event ip_rcv skb=0x1 cpu=2 ", f"{shown.comm}:7 ", " 127.0.0.1:1->127.0.0.1:2(tcp)>")
    assert all(part in repr(shown) for part in parts), repr(shown)
    assert len(repr(shown)) < 200
