"""Journeys: the events of each packet, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from itertools import chain
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pypwru.discovery import function_tables
from pypwru.discovery.targets import Targets
from pypwru.errors import OutputClosed
from pypwru.journey.outcome import KINDS, RECEIVED
from pypwru.journey.text import format_interval
from pypwru.journey.writer import JourneyWriter
from pypwru.packets import history
from pypwru.packets.limit import EventLimit
from pypwru.wire.record import Record, header_constants
from tests.oracles.json_schema import validated
from tests.support import records
from tests.support.journeys import journey_format
from tests.support.layouts import layout_of
from tests.support.records import (
    BLUE,
    DROP,
    FUNCTIONS,
    NFT_RULE,
    NO_SOCKET,
    TCP,
    configured,
    event,
    flow,
    nft,
    packet,
)

SCHEMA = json.loads(resources.files("pypwru.data").joinpath("journey.schema.json").read_text())
SKB_FREE = header_constants()["EVENT_SKB_FREE"]
IP_OUTPUT, IP_RCV, CONSUME, DROP_FUNCTION, RULE = 1, 3, 4, 5, 14
COPY, XMIT = 50, 51
NAMES = FUNCTIONS | {COPY: "skb_copy_datagram_iter", XMIT: "dev_hard_start_xmit"}
LOCATION = 0xFFFFFFFF81000010
SYN = (4, TCP, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 41000, 80)
AFTER_NAT = (4, TCP, bytes([192, 0, 2, 1]), bytes([10, 0, 0, 2]), 41000, 80)


class RecordingWriter:
    """A writer of journeys, and its output."""

    def __init__(
        self,
        flags: str = "",
        process: Callable[[int, str, int], str] = lambda pid, comm, start_stack: "/usr/bin/ping",
    ) -> None:
        self.config = configured(f"--output-journey {flags}")
        self.out: list[bytes] = []
        names = records.names(process)
        layout, formatter = layout_of(self.config), journey_format(self.config, names)
        self.journeys = JourneyWriter(layout, names, Targets(NAMES), formatter, self.out.extend)

    def record(
        self, function: int, at: int = 0, reason: int = 0, skb: int = 1, number: int = 42,
        nft_part: bytes = b"", kind: int = 0, cpu: int = 0, **flow_fields: Any,
    ) -> Record:  # fmt: skip
        parts = {"packet_id": number.to_bytes(8, "little"), "caller": records.caller(LOCATION)}
        tail = records.tail(self.config, **parts, **({"nft": nft_part} if nft_part else {}))
        flow_part = flow(**{"ends": SYN, "size": 60, "ifindex": 2, **flow_fields})
        return event(packet(skb, cpu, 7, kind), function, flow_part, at, reason, tail)

    def free(self, skb: int = 1, number: int = 42) -> Record:
        return self.record(0, skb=skb, number=number, kind=SKB_FREE)

    def lines(self, *batch: Record) -> list[str]:
        """Write a batch, and return the lines written of packets that were freed."""
        self.journeys.show(batch)
        self.journeys.show(())
        text, self.out[:] = b"".join(self.out).decode(), []
        return text.split("\n")


def test_drop_without_rule_is_explained() -> None:
    writer = RecordingWriter()
    line = writer.lines(
        writer.record(DROP_FUNCTION, 1, NO_SOCKET, nft_part=records.FOREIGN_DROP), writer.free()
    )[-3]
    assert line == (
        "  dropped: SKB_DROP_REASON_NO_SOCKET at __netif_receive_skb_one_core+0x2a, "
        "no rule seen: conntrack, or another hook function"
    )
    writer = RecordingWriter("--output-json")
    (line, *_) = writer.lines(
        writer.record(DROP_FUNCTION, 1, NO_SOCKET, nft_part=records.FOREIGN_DROP), writer.free()
    )
    assert json.loads(line)["end"]["nft"] == {"no_rule": "conntrack, or another hook function"}


def test_lines_of_a_journey() -> None:
    writer = RecordingWriter("--output-tcp-flags")
    nft_part = nft(12, DROP, chain=2, path=(1,))
    lines = writer.lines(
        writer.record(IP_OUTPUT, 1000, flags=2),
        writer.record(IP_RCV, 2200, flags=2, ends=AFTER_NAT),
        writer.record(IP_RCV, 3000, flags=2, ends=AFTER_NAT, netns=BLUE, cpu=1),
        writer.record(
            RULE, 5000, kind=NFT_RULE, nft_part=nft_part, ends=AFTER_NAT, netns=BLUE, cpu=1,
        ),
        writer.record(
            DROP_FUNCTION, 85000, NO_SOCKET, nft_part=nft_part, ends=AFTER_NAT, netns=BLUE, cpu=1,
            mark=7,
        ),
        writer.free(),
    )  # fmt: skip
    start = lines[0].rpartition("  ")[2]
    assert lines == [
        "0x1  packet 42  10.0.0.1:41000->10.0.0.2:80(tcp:SYN)  netns 4026531840  eth0:2  len 60  "
        f"5 events in 84.0 us  {start}",
        "  +0 ns        ip_output                                      cpu 0  ping:7",
        "               NAT 10.0.0.1:41000->10.0.0.2:80(tcp:SYN) => "
        "192.0.2.1:41000->10.0.0.2:80(tcp:SYN)",
        "  +1.20 us     ip_rcv",
        "               dev eth0:2 => ~erlongname123:2 (netns 4026532273)",
        "  +800 ns      ip_rcv                                         cpu 1  ping:7",
        "  +2.00 us     nft inet filter web  handle 12 drop",
        "               mark 0x0 => 0x7",
        "  +80.0 us     sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)",
        "  dropped: SKB_DROP_REASON_NO_SOCKET at __netif_receive_skb_one_core+0x2a by "
        "inet filter input -> web #12 drop",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("functions", "end"),
    [
        ((IP_RCV, COPY, CONSUME), "delivered to ping:7 in skb_copy_datagram_iter"),
        ((IP_OUTPUT, XMIT, CONSUME), "sent on eth0:2"),
        ((XMIT, IP_RCV, CONSUME), "freed, last seen in consume_skb"),
        ((XMIT, IP_RCV, COPY), "delivered to ping:7 in skb_copy_datagram_iter"),
        ((8, CONSUME), "handled by the kernel in arp_rcv"),
        ((IP_RCV, CONSUME), "freed, last seen in consume_skb"),
    ],
)
def test_outcomes(functions: tuple[int, ...], end: str) -> None:
    writer = RecordingWriter()
    events = [writer.record(function, at) for at, function in enumerate(functions)]
    # The test's NameResolver has no names for these two.
    lines = writer.lines(*events, writer.free())
    line = lines[-3].replace(hex(COPY), NAMES[COPY])
    assert line == f"  {end}"


def test_unfreed_packets_come_last() -> None:
    writer = RecordingWriter()
    one, other = writer.record(IP_RCV, 1), writer.record(IP_RCV, 2, skb=2, number=43)
    lines = writer.lines(one, other, writer.free(2, 43))
    assert [line for line in lines if line.startswith("0x")] == [
        line for line in lines if "packet 43" in line
    ]
    writer.journeys.finish()
    text = b"".join(writer.out).decode()
    assert text.startswith("0x1  packet 42")
    assert text.endswith("  still under way when the trace ended, last seen in ip_rcv\n\n")
    assert writer.journeys.count == 2


def test_limit_cuts_off_journeys() -> None:
    """Unless it was freed before, or its drop is an event."""
    writer, limit = RecordingWriter(), EventLimit(4)
    records = [
        writer.record(IP_RCV, 1, skb=2, number=43),
        writer.record(IP_RCV, 2, skb=3, number=44),
        writer.record(IP_RCV, 3),
        writer.free(2, 43),
        writer.record(DROP_FUNCTION, 4, NO_SOCKET),
        writer.record(IP_RCV, 5, skb=3, number=44),
        writer.free(3, 44),
    ]
    writer.journeys.show(limit.take(records[:3]))
    writer.journeys.show(limit.take(records[3:]))
    assert limit.is_reached
    writer.journeys.finish(is_limit_reached=True)
    journeys = b"".join(writer.out).decode().split("\n\n")[:-1]
    ends = {text.partition("packet ")[2][:2]: text.splitlines()[-1] for text in journeys}
    assert ends.keys() == {"42", "43", "44"}
    assert ends["42"].startswith("  dropped: ")
    assert ends["43"] == "  freed, last seen in ip_rcv"
    assert ends["44"] == "  cut off by --output-limit-lines, last seen in ip_rcv"


def test_read_packet_is_delivered() -> None:
    writer = RecordingWriter()
    writer.lines(writer.record(IP_RCV, 1), writer.record(COPY, 2))
    writer.journeys.finish()
    assert "  delivered to ping:7 in " in writer.out[-1].decode()


def test_clone_has_its_own_journey() -> None:
    writer = RecordingWriter()
    lines = writer.lines(
        writer.record(IP_RCV, 1), writer.record(IP_RCV, 2, skb=2), writer.free(), writer.free(2)
    )
    assert [line[:15] for line in lines if line.startswith("0x")] == [
        "0x1  packet 42 ".rstrip(" ") + " ", "0x2  packet 42 ".rstrip(" ") + " ",
    ]  # fmt: skip


def test_encapsulation_is_not_nat() -> None:
    writer = RecordingWriter()
    lines = writer.lines(
        writer.record(IP_RCV, 1), writer.record(IP_RCV, 2, ends=AFTER_NAT, size=110), writer.free()
    )
    assert lines[2].split()[0] == "tuple"


def test_missing_fields_are_no_change() -> None:
    writer = RecordingWriter()
    nothing = (0, 0, bytes(4), bytes(4), 0, 0)
    lines = writer.lines(
        writer.record(IP_RCV, 1), writer.record(IP_RCV, 2, ends=nothing, ifindex=0),
        writer.record(IP_RCV, 3), writer.free(),
    )  # fmt: skip
    assert [line[:3] for line in lines] == ["0x1", "  +", "  +", "  +", "  f", "", ""]


def test_more_columns_follow() -> None:
    writer = RecordingWriter("--output-caller")
    lines = writer.lines(writer.record(IP_RCV, 1), writer.free())
    assert lines[1].endswith("cpu 0  ping:7  __netif_receive_skb_one_core")


def test_json_object() -> None:
    writer = RecordingWriter("--output-json")
    nft_part = nft(12, DROP)
    (line, nothing) = writer.lines(
        writer.record(IP_RCV, 1000),
        writer.record(DROP_FUNCTION, 85000, NO_SOCKET, nft_part=nft_part),
        writer.free(),
    )
    found = json.loads(line)
    Draft202012Validator(SCHEMA).validate(found)
    assert nothing == ""
    outcome = found.pop("end")
    assert outcome.pop("nft")["rule_handle"] == 12
    assert outcome == {
        "kind": "dropped",
        "func": "sk_skb_reason_drop",
        "reason": "SKB_DROP_REASON_NO_SOCKET",
        "location": "__netif_receive_skb_one_core+0x2a",
    }
    events = found.pop("events")
    assert [item.pop("offset_ns") for item in events] == [0, 84000]
    for item in events:
        validated(json.dumps(item).encode() + b"\n")
    assert found.pop("start")
    assert found == {
        "packet_id": 42,
        "skb": "0x1",
        "tuple": {
            "saddr": "10.0.0.1", "daddr": "10.0.0.2", "sport": 41000, "dport": 80, "proto": TCP,
        },
        "netns": 4026531840,
        "start_ns": 1000,
        "duration_ns": 84000,
    }  # fmt: skip


def test_json_has_changes_of_text() -> None:
    def journey_lines(writer: RecordingWriter) -> list[str]:
        return writer.lines(
            writer.record(IP_OUTPUT, 1000),
            writer.record(IP_RCV, 2200, ends=AFTER_NAT, ifindex=3),
            writer.record(IP_RCV, 2300, ends=AFTER_NAT, ifindex=0),
            writer.record(IP_RCV, 2400, ends=AFTER_NAT, ifindex=3, mark=5),
            writer.free(),
        )

    found = json.loads(journey_lines(RecordingWriter("--output-json"))[0])
    Draft202012Validator(SCHEMA).validate(found)
    changes = [item.get("changes", []) for item in found["events"]]
    assert list(map(len, changes)) == [0, 2, 0, 1]
    lines = [line.strip() for line in journey_lines(RecordingWriter())]
    assert [line for line in lines if line.startswith(("NAT", "dev", "mark"))] == list(
        chain(*changes)
    )
    assert changes[3] == ["mark 0x0 => 0x5"]


def test_kernel_threads_have_full_names() -> None:
    for path, expected in (("ksoftirqd/1", "ksoftirqd/1:7"), ("/usr/bin/ping", "ping:7")):
        writer = RecordingWriter(process=lambda pid, comm, start_stack: path)  # noqa: B023
        lines = writer.lines(writer.record(IP_RCV, 1), writer.free())
        assert lines[1].endswith(f"cpu 0  {expected}")


def test_held_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_HELD_EVENTS", 3)
    writer = RecordingWriter()
    writer.lines(
        *(writer.record(IP_RCV, at) for at in range(3)), writer.record(IP_RCV, 4, skb=2, number=2)
    )
    assert writer.journeys.summarize() == {"lost_journeys": 3}
    writer.journeys.finish()
    assert writer.journeys.count == 1


def test_closed_output_counts_journeys() -> None:
    writer = RecordingWriter()

    def write(texts: object) -> None:
        raise OutputClosed(1)

    writer.journeys._write = write
    with pytest.raises(OutputClosed):
        writer.lines(
            writer.record(IP_RCV, 1), writer.record(IP_RCV, 2), writer.free(),
            writer.record(IP_RCV, 3, skb=2, number=2), writer.free(2, 2),
        )  # fmt: skip
    assert writer.journeys.count == 2


def test_intervals() -> None:
    shown = [
        format_interval(number) for number in (0, 999, 1000, 84_100, 999_000, 3_400_000, 1 << 31)
    ]
    assert shown == ["0 ns", "999 ns", "1.00 us", "84.1 us", "999 us", "3.40 ms", "2.15 s"]


def test_table_of_outcomes() -> None:
    rows = function_tables.load_table("ends")
    assert {row.key for row in rows} <= {*KINDS, RECEIVED}
    names = [name for row in rows for name in row.names]
    assert len(names) == len(set(names))
    assert SCHEMA["properties"]["end"]["properties"]["kind"]["enum"] == list(KINDS)
