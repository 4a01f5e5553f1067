"""The worked rows of PWRU.md 2.3, byte for byte, and what the printer keeps. Rows are data."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pypwru.config import Config
from pypwru.options import parse
from pypwru.output import text
from pypwru.output.clock import Clock
from pypwru.output.columns import Names, columns
from pypwru.output.parts import FLOW, FUNCTION, PACKET
from pypwru.output.text import Event, TextPrinter
from pypwru.resolve.functions import FunctionNames

HOST = 4026531840
LOOPBACK = bytes([127, 0, 0, 1])
ICMP, TCP, UDP, SCTP, ICMP6 = 1, 6, 17, 132, 58
FUNCTIONS = {
    1: "ip_output",
    2: "__ip_local_out",
    3: "ip_rcv",
    4: "consume_skb",
    5: "sk_skb_reason_drop",
    6: "ipv6_rcv",
    7: "veth_xmit[veth]",
    8: "arp_rcv",
    9: "test_function",
}
NO_SOCKET = 3


def packet(skb: int, cpu: int, pid: int) -> bytes:
    return PACKET.pack(skb, pid, cpu, 0, b"")


def flow(
    netns: int = HOST,
    mark: int = 0,
    ifindex: int = 0,
    mtu: int = 65536,
    size: int = 84,
    protocol: int = 0x0800,
    ends: tuple[int, int, bytes, bytes, int, int] = (4, ICMP, LOOPBACK, LOOPBACK, 0, 0),
    flags: int = 0,
) -> bytes:
    l3, l4, source, destination, sport, dport = ends
    ports = sport.to_bytes(2, "big"), dport.to_bytes(2, "big")
    kind = protocol.to_bytes(2, "big")
    return FLOW.pack(
        netns, mark, ifindex, mtu, size, kind, l3, l4, source, destination, *ports, flags
    )


def event(packet: bytes, function: int, flow: bytes, ktime: int = 0, reason: int = 0) -> Event:
    return packet, FUNCTION.pack(function, reason), ktime, flow


def names(process: Callable[[int], str], clock: Clock | None = None) -> Names:
    links = {
        (HOST, 1): "lo",
        (HOST, 3): "veth0",
        (HOST, 2): "eth0",
        (4026532273, 2): "averlongname123",
    }
    return Names(
        process=process,
        interface=lambda netns, ifindex: links.get((netns, ifindex), ""),
        function=FunctionNames(FUNCTIONS, {NO_SOCKET: "SKB_DROP_REASON_NO_SOCKET"}, {5}).text,
        clock=clock or Clock(lambda: 0),
    )


class Output:
    """A printer and what it wrote; ``flags`` as typed."""

    def __init__(self, flags: str = "", program: str = "/usr/bin/ping", **kwargs: object) -> None:
        config = parse(flags.split())
        assert isinstance(config, Config)
        self.writes: list[bytes] = []
        clock = kwargs.pop("clock", None)
        assert clock is None or isinstance(clock, Clock)
        self.printer = TextPrinter(
            columns(config),
            names(lambda pid: program, clock),
            lambda events: self.writes.append(b"".join(events)),
            config.output_limit_lines,
            **kwargs,  # type: ignore[arg-type]
        )

    def lines(self, *batch: Event) -> list[str]:
        self.writes.clear()
        self.printer.print_batch(batch)
        return b"".join(self.writes).decode().splitlines()

    def header(self) -> str:
        self.writes.clear()
        self.printer.print_header()
        return b"".join(self.writes).decode()


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
    ],
)
def test_header(flags: str, header: str) -> None:
    assert Output(flags).header() == header


DAD = (6, ICMP6, bytes.fromhex("fd00" + "00" * 13 + "01"))
SOLICITED = bytes.fromhex("ff02" + "00" * 9 + "01ff000002")
VETH = (4, ICMP, bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]), 0, 0)


@pytest.mark.parametrize(
    ("flags", "program", "seen", "row"),
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
            # pwru's benchmark event: numbers in host order, and a process name that it doesn't cut.
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
def test_worked_rows(flags: str, program: str, seen: Event, row: str) -> None:
    assert Output(flags, program).lines(seen) == [row]


def test_tuple_padding_grows_and_a_drop_has_its_reason() -> None:
    output = Output("--output-tcp-flags", "/usr/bin/python3.11")
    who = 1711
    reset = flow(protocol=0, size=40, ends=(4, TCP, LOOPBACK, LOOPBACK, 9, 42390), flags=0x14)
    syn = flow(ifindex=1, size=40, ends=(4, TCP, LOOPBACK, LOOPBACK, 42390, 9), flags=0x02)
    rows = output.lines(
        event(packet(0xFF184D00C08B6B00, 1, who), 2, reset),
        event(packet(0xFF184D00FCA45AE8, 1, who), 5, syn, reason=NO_SOCKET),
    )
    assert rows == [
        "0xff184d00c08b6b00 1   ~python3.11:1711 4026531840 0               0         0x0000 65536 "
        "40    127.0.0.1:9->127.0.0.1:42390(tcp:RST|ACK) __ip_local_out",
        "0xff184d00fca45ae8 1   ~python3.11:1711 4026531840 0              lo:1       0x0800 65536 "
        "40    127.0.0.1:42390->127.0.0.1:9(tcp:SYN)     "
        "sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)",
    ]


def test_a_row_printed_before_the_width_grew_is_padded_after() -> None:
    output = Output("--output-meta=false")
    short, long = flow(), flow(ends=VETH)
    here = packet(1, 0, 7)
    narrow = output.lines(event(here, 1, long))[0]
    assert narrow.endswith(" 10.9.0.1:0->10.9.0.2:0(icmp) ip_output")
    output.lines(event(here, 1, short))
    assert output.lines(event(here, 1, long))[0].endswith("10.9.0.2:0(icmp)   ip_output")


def test_absolute_shows_the_events_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        seen = 111192926388
        wall = 1795407513_584_999_999  # 2026-11-23T04:18:33.584999999Z
        output = Output("--timestamp absolute", clock=Clock(lambda: wall - seen))
        row = output.lines(event(packet(0xFF184D00C0AB5A00, 0, 525), 2, flow(protocol=0), seen))[0]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert row == (
        "2026-11-23T04:18:33.584 0xff184d00c0ab5a00 0   ~sr/bin/ping:525 111192926388     "
        "4026531840 0               0         0x0000 65536 84    "
        "127.0.0.1:0->127.0.0.1:0(icmp) __ip_local_out"
    )


def test_relative_is_since_the_same_skb() -> None:
    output = Output("--timestamp relative --output-meta=0 --output-tuple=0", "x")
    first, second = packet(1, 0, 7), packet(2, 0, 7)
    moved = packet(1, 5, 8)  # same skb, other CPU and process
    times = [(first, 100), (second, 150), (moved, 1000), (second, 1150)]
    rows = output.lines(*(event(who, 1, flow(), when) for who, when in times))
    assert [row.split()[3] for row in rows] == ["0", "0", "900", "1000"]


def test_the_limit_counts_events_and_cuts_the_batch() -> None:
    output = Output("--output-limit-lines 3")
    one = event(packet(1, 0, 7), 1, flow())
    assert output.printer.print_batch([one, one]) is False
    assert output.printer.print_batch([one, one]) is True
    assert output.printer.print_batch([one]) is True
    assert b"".join(output.writes).count(b"\n") == output.printer.printed == 3


def test_a_batch_is_one_write_and_an_empty_one_none() -> None:
    output = Output()
    one = event(packet(1, 0, 7), 1, flow())
    assert output.printer.print_batch([one] * 50) is False
    output.printer.print_batch([])
    assert len(output.writes) == 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_KEPT_TEXTS", 8)
    output = Output()
    batch = [event(packet(n, 0, n), n, flow(mark=n)) for n in range(1, 101)]
    rows = output.lines(*batch)
    assert [row.split()[4] for row in rows] == [f"{n:x}" for n in range(1, 101)]
    kept = output.printer._packets, output.printer._flows, output.printer._functions
    assert all(len(texts) <= 8 for texts in kept)


def test_a_name_is_kept_for_a_second() -> None:
    now = 10.0
    program = "/bin/old"
    config = parse([])
    assert isinstance(config, Config)
    writes: list[bytes] = []
    printer = TextPrinter(
        columns(config), names(lambda pid: program), writes.extend, monotonic=lambda: now
    )
    one = event(packet(1, 0, 7), 1, flow())
    printer.print_batch([one])
    program = "/bin/new"
    printer.print_batch([one])
    now += 1
    printer.print_batch([one])
    assert [line.split()[2] for line in writes] == [b"/bin/old:7", b"/bin/old:7", b"/bin/new:7"]


def test_names_that_are_not_utf8_come_through() -> None:
    output = Output(program=b"/bin/\xff".decode("utf-8", "surrogateescape"))
    output.printer.print_batch([event(packet(1, 0, 7), 1, flow())])
    assert b" /bin/\xff:7 " in output.writes[0]
