"""Lines of pwru, byte for byte, and the caches of the printer. Lines are data."""

from __future__ import annotations

import time

import pytest

from pypwru.names.clock import Clock
from pypwru.output import printer as printer_module
from pypwru.wire.fields import Part
from pypwru.wire.record import Record
from tests.support import records
from tests.support.records import (
    BLUE,
    ICMP,
    ICMP6,
    LOOPBACK,
    MAP_CALL,
    NO_SOCKET,
    SYMBOLS,
    TC,
    TCP,
    UDP,
    XDP,
    Output,
    event,
    flow,
    packet,
    tail,
)

HEADER = (
    "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       "
    "PROTO  MTU   LEN   TUPLE FUNC\n"
)


@pytest.mark.parametrize(
    ("flags", "header"),
    [
        ("", HEADER),
        (
            "--timestamp absolute",
            "TIME                    SKB                CPU PROCESS          TIMESTAMP        "
            "NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC\n",
        ),
        (
            "--timestamp=relative --output-tuple=false",
            "SKB                CPU PROCESS          TIMESTAMP        "
            "NETNS      MARK/x        IFACE       PROTO  MTU   LEN   FUNC\n",
        ),
        ("--output-meta=false", "SKB                CPU PROCESS          TUPLE FUNC\n"),
        ("--output-meta=0 --output-tuple=0", "SKB                CPU PROCESS          FUNC\n"),
        (
            "--output-skb-cb",
            "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  "
            "MTU   LEN   __sk_buff->cb[]                                          TUPLE FUNC\n",
        ),
        ("--output-skb-cb --output-meta=0", "SKB                CPU PROCESS          TUPLE FUNC\n"),
        (
            "--output-netns-names",
            "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  "
            "MTU   LEN     NETNS NAME    TUPLE FUNC\n",
        ),
        (
            "--output-netns-names --netns-names-max-length 10 --output-meta=0",
            "SKB                CPU PROCESS         NETNS NAME TUPLE FUNC\n",
        ),
        (
            "--output-caller --output-tunnel --output-stack --output-skb --output-meta=0",
            "SKB                CPU PROCESS          TUPLE FUNC CALLER TUNNEL\n",
        ),
    ],
)
def test_header(flags: str, header: str) -> None:
    assert Output(f"--output-nft=false {flags}").header() == header


def test_header_with_nft_columns() -> None:
    assert Output().header() == HEADER.replace(" FUNC", " FUNC NFT-CHAIN NFT-RULE")
    assert (
        Output("--output-caller --output-tunnel --output-nft=text")
        .header()
        .endswith(" FUNC CALLER NFT-CHAIN NFT-RULE TUNNEL\n")
    )


DAD = (6, ICMP6, bytes.fromhex("fd00" + "00" * 13 + "01"))
SOLICITED = bytes.fromhex("ff02" + "00" * 9 + "01ff000002")
VETH = (4, ICMP, bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]), 0, 0)


@pytest.mark.parametrize(
    ("flags", "program", "record", "row"),
    [
        (
            "",
            "/usr/bin/ping",
            event(packet(0xFF184D00C08B6300, 1, 264), 1, flow()),
            "0xff184d00c08b6300 1   ~sr/bin/ping:264 4026531840 0               0         0x0800 "
            "65536 84    127.0.0.1:0->127.0.0.1:0(icmp) ip_output",
        ),
        (
            "--timestamp current",
            "/usr/bin/ping",
            event(packet(0xFF184D00C08B6300, 1, 352), 2, flow(protocol=0), ktime=71639303161),
            "0xff184d00c08b6300 1   ~sr/bin/ping:352 71639303161      4026531840 0               0"
            "         0x0000 65536 84    127.0.0.1:0->127.0.0.1:0(icmp) __ip_local_out",
        ),
        (
            "--output-meta=false",
            "/usr/bin/ping",
            event(packet(0xFF184D00C0AB5A00, 0, 695), 2, flow(protocol=0)),
            "0xff184d00c0ab5a00 0   ~sr/bin/ping:695 127.0.0.1:0->127.0.0.1:0(icmp) __ip_local_out",
        ),
        (
            "--output-tuple=false",
            "/usr/bin/ping",
            event(packet(0xFF184D00C08B6300, 1, 780), 2, flow(protocol=0)),
            "0xff184d00c08b6300 1   ~sr/bin/ping:780 4026531840 0               0         0x0000 "
            "65536 84    __ip_local_out",
        ),
        (
            "",
            "/usr/bin/ping",
            event(
                packet(0xFF184D00C0AB5800, 0, 1895),
                6,
                flow(4026532273, 0, 2, 1500, 72, 0x86DD, (*DAD, SOLICITED, 0, 0)),
            ),
            "0xff184d00c0ab5800 0   ~r/bin/ping:1895 4026532273 0        ~erlongname123:2 0x86dd "
            "1500  72    [fd00::1]:0->[ff02::1:ff00:2]:0(icmp6) ipv6_rcv",
        ),
        (
            "",
            "/usr/bin/ping",
            event(
                packet(0xFF184D00C08B6100, 1, 3772),
                7,
                flow(ifindex=3, mtu=1500, size=98, ends=VETH),
            ),
            "0xff184d00c08b6100 1   ~r/bin/ping:3772 4026531840 0            veth0:3      0x0800 "
            "1500  98    10.9.0.1:0->10.9.0.2:0(icmp) veth_xmit[veth]",
        ),
        (
            "",
            "/usr/bin/ping",
            event(
                packet(0xFF184D00C08B6C00, 1, 2361),
                8,
                flow(4026532273, 0, 2, 1500, 28, 0x0806, (0, 0, b"", b"", 0, 0)),
            ),
            "0xff184d00c08b6c00 1   ~r/bin/ping:2361 4026532273 0        ~erlongname123:2 0x0806 "
            "1500  28    :0->:0() arp_rcv",
        ),
        (
            "--output-tcp-flags",
            "test-process",
            # pwru's benchmark event: numbers in host order, and an untruncated process name.
            event(
                packet(0xFFFF888012345678, 0, 1234),
                9,
                flow(
                    mark=0x100,
                    ifindex=2,
                    mtu=1500,
                    size=64,
                    protocol=0x0008,
                    ends=(4, TCP, bytes([192, 168, 1, 10]), bytes([192, 168, 1, 20]), 14640, 20480),
                    flags=0x12,
                ),
            ),
            "0xffff888012345678 0   ~st-process:1234 4026531840 100           eth0:2      0x0008 "
            "1500  64    192.168.1.10:14640->192.168.1.20:20480(tcp:SYN|ACK) test_function",
        ),
    ],
)
def test_lines(flags: str, program: str, record: Record, row: str) -> None:
    assert Output(flags, program).lines(record) == [row]


NO_CB = "[0x00000000,0x00000000,0x00000000,0x00000000,0x00000000]"
OUTER = (4, UDP, bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]), 59919, 4789)
INNER = (4, ICMP, bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2]), 0, 0)
BACK = (4, ICMP, VETH[3], VETH[2], 0, 0)


@pytest.mark.parametrize(
    ("flags", "packet_part", "function", "flow_part", "parts", "row"),
    [
        (
            "--output-skb-cb",
            packet(0xFF184D00C0AB5A00, 0, 871),
            3,
            flow(ifindex=1),
            {},
            "0xff184d00c0ab5a00 0   ~sr/bin/ping:871 4026531840 0              lo:1       0x0800 "
            f"65536 84    {NO_CB} 127.0.0.1:0->127.0.0.1:0(icmp) ip_rcv",
        ),
        (
            "--output-skb-cb --output-tuple=0",
            packet(1, 0, 871),
            3,
            flow(),
            {"cb": records.cb(1, 0xABCDEF01, 0, 0, 0xFFFFFFFF)},
            "0x1                0   ~sr/bin/ping:871 4026531840 0               0         0x0800 "
            "65536 84    [0x00000001,0xABCDEF01,0x00000000,0x00000000,0xFFFFFFFF] ip_rcv",
        ),
        (
            "--output-netns-names",
            packet(0xFF184D00C08B6B00, 1, 969),
            4,
            flow(ifindex=3, mtu=1500, ends=VETH),
            {},
            "0xff184d00c08b6b00 1   ~sr/bin/ping:969 4026531840 0            veth0:3      0x0800 "
            "1500  84                    10.9.0.1:0->10.9.0.2:0(icmp) consume_skb",
        ),
        (
            "--output-netns-names --netns-names-max-length 10 --output-meta=false",
            packet(0xFF184D00C08B6B00, 1, 1062),
            2,
            flow(BLUE, ends=BACK),
            {},
            "0xff184d00c08b6b00 1   ~r/bin/ping:1062   blue    10.9.0.2:0->10.9.0.1:0(icmp) "
            "__ip_local_out",
        ),
        (
            "--output-tunnel",
            packet(0xFF2B046B7CBB8800, 0, 327),
            10,
            flow(ifindex=3, mtu=1500, size=134, ends=OUTER),
            {"tunnel": records.tunnel(INNER)},
            "0xff2b046b7cbb8800 0   ~sr/bin/ping:327 4026531840 0            veth0:3      0x0800 "
            "1500  134   10.9.0.1:59919->10.9.0.2:4789(udp) nf_hook_slow "
            "10.77.0.1:0->10.77.0.2:0(icmp)",
        ),
        (
            "--filter-trace-tc --output-skb-metadata skb->len",
            packet(0xFF2B046B408B5300, 1, 1534, TC),
            11,
            flow(ifindex=3, mtu=1500, size=98, ends=VETH),
            {"metadata": records.metadata(98)},
            "0xff2b046b408b5300 1   ~r/bin/ping:1534 4026531840 0            veth0:3      0x0800 "
            f"1500  98    {NO_CB} 10.9.0.1:0->10.9.0.2:0(icmp) "
            "bpf_prog_f7c8a1f24a6b4746_tc_dummy_prog[bpf](tc) len=98 mark=0",
        ),
        (
            "--filter-trace-tc --filter-trace-xdp --output-xdp-metadata xdp->rxq->queue_index",
            packet(0xFF713287C0100B68, 1, 1534, XDP),
            12,
            flow(ifindex=3, mtu=1500, size=98, protocol=0, ends=BACK),
            {},
            "0xff713287c0100b68 1   ~r/bin/ping:1534 4026531840 0            veth0:3      0x0000 "
            f"1500  98    {NO_CB} 10.9.0.2:0->10.9.0.1:0(icmp) "
            "bpf_prog_3b185187f1855c4c_xdp_dummy_prog[bpf](xdp) queue_index=0",
        ),
        (
            "--filter-trace-xdp --output-xdp-metadata xdp->rxq->queue_index --output-meta=0",
            packet(1, 1, 1534),
            3,
            flow(),
            {"metadata": records.metadata(7)},
            "0x1                1   ~r/bin/ping:1534 127.0.0.1:0->127.0.0.1:0(icmp) ip_rcv",
        ),
    ],
)
def test_lines_with_tail(
    flags: str,
    packet_part: bytes,
    function: int,
    flow_part: bytes,
    parts: dict[str, bytes],
    row: str,
) -> None:
    output = Output(flags)
    assert output.lines(
        event(packet_part, function, flow_part, tail=tail(output.config, **parts))
    ) == [row]


def test_caller_pads_the_function() -> None:
    output = Output("--output-caller")
    packet_part, flow_part = packet(0xFF184D00C08B6B00, 1, 1158), flow(ifindex=1)
    tail_part = tail(output.config, caller=records.caller(0xFFFFFFFF81000010))
    rows = output.lines(
        *(event(packet_part, function, flow_part, tail=tail_part) for function in (2, 3))
    )
    assert rows[1] == (
        "0xff184d00c08b6b00 1   ~r/bin/ping:1158 4026531840 0              lo:1       0x0800 65536 "
        "84    127.0.0.1:0->127.0.0.1:0(icmp) ip_rcv         __netif_receive_skb_one_core"
    )


def test_continuation_lines() -> None:
    """Stack and dumps, and then the tunnel, which pwru prints after them."""
    output = Output(
        "--output-stack --output-skb --output-skb-shared-info --output-tunnel --output-meta=0"
    )
    dump = b"(struct skb_shared_info){\n .dataref = (atomic_t){\n  .counter = (int)1,\n },\n}\n"
    tail_part = tail(
        output.config,
        stack=records.stack(*sorted(SYMBOLS)[1:]),
        skb=b"(struct sk_buff){\n .len = (unsigned int)84,\n}\n\0stale",
        shinfo=dump,
    )
    packet_part = packet(0xFF184D00C0AB5400, 0, 1254)
    assert output.print(event(packet_part, 2, flow(protocol=0), tail=tail_part)).decode() == (
        "0xff184d00c0ab5400 0   ~r/bin/ping:1254 127.0.0.1:0->127.0.0.1:0(icmp) __ip_local_out\n"
        "__ip_local_out\nip_push_pending_frames\nraw_sendmsg\n"
        "(struct sk_buff){\n .len = (unsigned int)84,\n}\n\n"
        "(struct skb_shared_info){\n .dataref = (atomic_t){\n  .counter = (int)1,\n },\n}\n"
        " :0->:0()\n"
    )


def test_stack_is_that_of_pwru() -> None:
    output = Output("--output-stack")
    tail_part = tail(output.config, stack=records.stack(*sorted(SYMBOLS)[1:]))
    packet_part = packet(0xFF184D00C0AB5400, 0, 1254)
    assert output.print(event(packet_part, 2, flow(protocol=0), tail=tail_part)).decode() == (
        "0xff184d00c0ab5400 0   ~r/bin/ping:1254 4026531840 0               0         0x0000 65536 "
        "84    127.0.0.1:0->127.0.0.1:0(icmp) __ip_local_out\n"
        "__ip_local_out\nip_push_pending_frames\nraw_sendmsg\n"
    )


def test_map_call_follows_its_line() -> None:
    output = Output("--output-bpfmap --output-meta=0 --output-tuple=0")
    tail_part = tail(
        output.config, map=records.bpf_map(5, b"conntrack", bytes([1, 0, 0, 0]), bytes(range(18)))
    )
    rows = output.lines(
        event(packet(1, 0, 7, MAP_CALL), 13, flow(), tail=tail_part),
        event(packet(1, 0, 7), 3, flow(), tail=tail(output.config)),
    )
    assert rows == [
        "0x1                0   /usr/bin/ping:7  __htab_map_lookup_elem",
        "map_id: 5",
        "map_name: conntrack",
        "key(4):",
        "00000000  01 00 00 00                                       |....|",
        "value(18):",
        "00000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|",
        "00000010  10 11                                             |..|",
        "",
        "0x1                0   /usr/bin/ping:7  ip_rcv",
    ]


def test_tuple_padding_and_drop_reason() -> None:
    output = Output("--output-tcp-flags", "/usr/bin/python3.11")
    pid = 1711
    reset = flow(protocol=0, size=40, ends=(4, TCP, LOOPBACK, LOOPBACK, 9, 42390), flags=0x14)
    syn = flow(ifindex=1, size=40, ends=(4, TCP, LOOPBACK, LOOPBACK, 42390, 9), flags=0x02)
    rows = output.lines(
        event(packet(0xFF184D00C08B6B00, 1, pid), 2, reset),
        event(packet(0xFF184D00FCA45AE8, 1, pid), 5, syn, reason=NO_SOCKET),
    )
    assert rows == [
        "0xff184d00c08b6b00 1   ~python3.11:1711 4026531840 0               0         0x0000 65536 "
        "40    127.0.0.1:9->127.0.0.1:42390(tcp:RST|ACK) __ip_local_out",
        "0xff184d00fca45ae8 1   ~python3.11:1711 4026531840 0              lo:1       0x0800 65536 "
        "40    127.0.0.1:42390->127.0.0.1:9(tcp:SYN)     "
        "sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)",
    ]


def test_padding_applies_to_cached_text() -> None:
    output = Output("--output-meta=false")
    short, long = flow(), flow(ends=VETH)
    packet_part = packet(1, 0, 7)
    narrow = output.lines(event(packet_part, 1, long))[0]
    assert narrow.endswith(" 10.9.0.1:0->10.9.0.2:0(icmp) ip_output")
    output.lines(event(packet_part, 1, short))
    assert output.lines(event(packet_part, 1, long))[0].endswith("10.9.0.2:0(icmp)   ip_output")


def test_absolute_is_the_event_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        ktime = 111192926388
        wall = 1795407513_584_999_999  # 2026-11-23T04:18:33.584999999Z
        output = Output("--timestamp absolute", clock=Clock(lambda: wall - ktime))
        row = output.lines(event(packet(0xFF184D00C0AB5A00, 0, 525), 2, flow(protocol=0), ktime))[0]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert row == (
        "2026-11-23T04:18:33.584 0xff184d00c0ab5a00 0   ~sr/bin/ping:525 111192926388     "
        "4026531840 0               0         0x0000 65536 84    "
        "127.0.0.1:0->127.0.0.1:0(icmp) __ip_local_out"
    )


def test_relative_is_since_last_event() -> None:
    output = Output("--timestamp relative --output-meta=0 --output-tuple=0", "x")
    address = packet(1, 0, 7)
    clone = packet(2, 5, 8)  # of the first, in another process and on another CPU
    events = [(address, 11, 100), (clone, 11, 1000), (address, 12, 1150), (address, 13, 1200)]
    rows = output.lines(
        *(
            event(
                packet_part,
                1,
                flow(),
                ktime,
                tail=tail(output.config, packet_id=number.to_bytes(8, "little")),
            )
            for packet_part, number, ktime in [*events, (clone, 12, 1250), (address, 14, 1300)]
        )
    )
    assert [row.split()[3] for row in rows] == ["0", "900", "0", "0", "100", "0"]


def test_batch_is_one_write() -> None:
    output = Output()
    record = event(packet(1, 0, 7), 1, flow(), tail=tail(output.config))
    output.printer.show([record] * 50)
    output.printer.show([])
    assert len(output.writes) == 1


def cached_counts(output: Output) -> dict[Part, int]:
    return {segment.part: len(segment.texts) for segment in output.printer._groups}


@pytest.mark.parametrize("flags", ["", "--output-caller"])
def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    monkeypatch.setattr(printer_module, "_MAX_TEXTS", 8)
    output = Output(flags)
    tail_part = tail(output.config)
    batch = [event(packet(n, 0, n), n, flow(mark=n), tail=tail_part) for n in range(1, 101)]
    rows = output.lines(*batch)
    assert [row.split()[4] for row in rows] == [f"{n:x}" for n in range(1, 101)]
    assert all(count <= 8 for count in cached_counts(output).values())


def test_names_are_cached_for_a_second() -> None:
    now = 10.0
    program = "/bin/old"
    output = Output(program=lambda pid, comm, start_stack: program, monotonic=lambda: now)
    record = event(packet(1, 0, 7), 1, flow())
    rows = output.lines(record)
    program = "/bin/new"
    rows += output.lines(record)
    now += 1
    rows += output.lines(record)
    assert [row.split()[2] for row in rows] == ["/bin/old:7", "/bin/old:7", "/bin/new:7"]


def test_names_that_are_not_utf8() -> None:
    """They are escaped: a reader of UTF-8 must not fail at a hostile name."""
    output = Output(program=b"/bin/\xff".decode("utf-8", "surrogateescape"))
    assert b" /bin/\\xff:7 " in output.print(event(packet(1, 0, 7), 1, flow()))
