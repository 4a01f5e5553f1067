"""Packet by packet, as text and as objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from itertools import chain
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pypwru.discovery import function_tables
from pypwru.errors import OutputClosed
from pypwru.journey.json import JourneyJson
from pypwru.journey.outcome import KINDS, RECEIVED
from pypwru.journey.text import JourneyText, format_interval
from pypwru.journey.writer import JourneyWriter
from pypwru.packets import history
from pypwru.packets.limit import EventLimit
from pypwru.wire.record import Record, header_constants
from tests.oracles.json_schema import validated
from tests.support import records
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
END = header_constants()["EVENT_SKB_FREE"]
IP_OUTPUT, IP_RCV, CONSUME, DROPS, RULE = 1, 3, 4, 5, 14
COPY, XMIT = 50, 51
NAMES = FUNCTIONS | {COPY: "skb_copy_datagram_iter", XMIT: "dev_hard_start_xmit"}
LOCATION = 0xFFFFFFFF81000010
SYN = (4, TCP, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 41000, 80)
BEHIND_NAT = (4, TCP, bytes([192, 0, 2, 1]), bytes([10, 0, 0, 2]), 41000, 80)


class Told:
    """Journeys, and what they wrote."""

    def __init__(
        self,
        flags: str = "",
        process: Callable[[int, str, int], str] = lambda pid, comm, start_stack: "/usr/bin/ping",
    ) -> None:
        self.config = configured(f"--output-journey {flags}")
        self.out: list[bytes] = []
        names = records.names(process)
        form = (JourneyJson if self.config.output_json else JourneyText)(self.config, names)
        self.journeys = JourneyWriter(self.config, names, NAMES, form, self.out.extend)

    def seen(
        self, function: int, at: int = 0, reason: int = 0, skb: int = 1, number: int = 42,
        said: bytes = b"", kind: int = 0, cpu: int = 0, **of_flow: Any,
    ) -> Record:  # fmt: skip
        parts = {"packet_id": number.to_bytes(8, "little"), "caller": records.caller(LOCATION)}
        tail = records.tail(self.config, **parts, **({"nft": said} if said else {}))
        where = flow(**{"ends": SYN, "size": 60, "ifindex": 2, **of_flow})
        return event(packet(skb, cpu, 7, kind), function, where, at, reason, tail)

    def end(self, skb: int = 1, number: int = 42) -> Record:
        return self.seen(0, skb=skb, number=number, kind=END)

    def lines(self, *batch: Record) -> list[str]:
        """What is written of packets that have ended."""
        self.journeys.show(batch)
        self.journeys.show(())
        text, self.out[:] = b"".join(self.out).decode(), []
        return text.split("\n")


def test_a_drop_of_another_hook_function_says_so() -> None:
    told = Told()
    line = told.lines(told.seen(DROPS, 1, NO_SOCKET, said=records.FOREIGN_DROP), told.end())[-3]
    assert line == (
        "  dropped: SKB_DROP_REASON_NO_SOCKET at __netif_receive_skb_one_core+0x2a, "
        "no rule seen: conntrack, or another hook function"
    )
    told = Told("--output-json")
    (line, *_) = told.lines(told.seen(DROPS, 1, NO_SOCKET, said=records.FOREIGN_DROP), told.end())
    assert json.loads(line)["end"]["nft"] == {"no_rule": "conntrack, or another hook function"}


def test_a_journey() -> None:
    told = Told("--output-tcp-flags")
    said = nft(12, DROP, chain=2, path=(1,))
    lines = told.lines(
        told.seen(IP_OUTPUT, 1000, flags=2),
        told.seen(IP_RCV, 2200, flags=2, ends=BEHIND_NAT),
        told.seen(IP_RCV, 3000, flags=2, ends=BEHIND_NAT, netns=BLUE, cpu=1),
        told.seen(RULE, 5000, kind=NFT_RULE, said=said, ends=BEHIND_NAT, netns=BLUE, cpu=1),
        told.seen(
            DROPS, 85000, NO_SOCKET, said=said, ends=BEHIND_NAT, netns=BLUE, cpu=1, mark=7,
        ),
        told.end(),
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
def test_ends(functions: tuple[int, ...], end: str) -> None:
    told = Told()
    sights = [told.seen(function, at) for at, function in enumerate(functions)]
    # The tests' names know nothing of these two.
    lines = told.lines(*sights, told.end())
    shown = lines[-3].replace(hex(COPY), NAMES[COPY])
    assert shown == f"  {end}"


def test_journeys_come_as_they_end_and_what_has_not_ended_comes_last() -> None:
    told = Told()
    one, other = told.seen(IP_RCV, 1), told.seen(IP_RCV, 2, skb=2, number=43)
    lines = told.lines(one, other, told.end(2, 43))
    assert [line for line in lines if line.startswith("0x")] == [
        line for line in lines if "packet 43" in line
    ]
    told.journeys.finish()
    text = b"".join(told.out).decode()
    assert text.startswith("0x1  packet 42")
    assert text.endswith("  still under way when the trace ended, last seen in ip_rcv\n\n")
    assert told.journeys.count == 2


def test_what_a_limit_cuts_off_has_no_end() -> None:
    """But one that had ended before has, and a drop that was seen is one."""
    told, limit = Told(), EventLimit(4)
    seen = [
        told.seen(IP_RCV, 1, skb=2, number=43),
        told.seen(IP_RCV, 2, skb=3, number=44),
        told.seen(IP_RCV, 3),
        told.end(2, 43),
        told.seen(DROPS, 4, NO_SOCKET),
        told.seen(IP_RCV, 5, skb=3, number=44),
        told.end(3, 44),
    ]
    told.journeys.show(limit.take(seen[:3]))
    told.journeys.show(limit.take(seen[3:]))
    assert limit.is_reached
    told.journeys.finish(is_limit_reached=True)
    journeys = b"".join(told.out).decode().split("\n\n")[:-1]
    ends = {text.partition("packet ")[2][:2]: text.splitlines()[-1] for text in journeys}
    assert ends.keys() == {"42", "43", "44"}
    assert ends["42"].startswith("  dropped: ")
    assert ends["43"] == "  freed, last seen in ip_rcv"
    assert ends["44"] == "  cut off by --output-limit-lines, last seen in ip_rcv"


def test_what_a_process_has_read_has_arrived_though_it_is_not_freed() -> None:
    told = Told()
    told.lines(told.seen(IP_RCV, 1), told.seen(COPY, 2))
    told.journeys.finish()
    assert "  delivered to ping:7 in " in told.out[-1].decode()


def test_a_clone_has_a_journey_of_its_own_and_the_number_that_it_shares() -> None:
    told = Told()
    lines = told.lines(told.seen(IP_RCV, 1), told.seen(IP_RCV, 2, skb=2), told.end(), told.end(2))
    assert [line[:15] for line in lines if line.startswith("0x")] == [
        "0x1  packet 42 ".rstrip(" ") + " ", "0x2  packet 42 ".rstrip(" ") + " ",
    ]  # fmt: skip


def test_a_tunnel_is_no_nat() -> None:
    told = Told()
    lines = told.lines(
        told.seen(IP_RCV, 1), told.seen(IP_RCV, 2, ends=BEHIND_NAT, size=110), told.end()
    )
    assert lines[2].split()[0] == "tuple"


def test_what_is_not_known_for_a_while_has_not_changed() -> None:
    told = Told()
    nothing = (0, 0, bytes(4), bytes(4), 0, 0)
    lines = told.lines(
        told.seen(IP_RCV, 1), told.seen(IP_RCV, 2, ends=nothing, ifindex=0), told.seen(IP_RCV, 3),
        told.end(),
    )  # fmt: skip
    assert [line[:3] for line in lines] == ["0x1", "  +", "  +", "  +", "  f", "", ""]


def test_more_columns_stand_behind() -> None:
    told = Told("--output-caller")
    lines = told.lines(told.seen(IP_RCV, 1), told.end())
    assert lines[1].endswith("cpu 0  ping:7  __netif_receive_skb_one_core")


def test_an_object() -> None:
    told = Told("--output-json")
    said = nft(12, DROP)
    (line, nothing) = told.lines(
        told.seen(IP_RCV, 1000), told.seen(DROPS, 85000, NO_SOCKET, said=said), told.end()
    )
    found = json.loads(line)
    Draft202012Validator(SCHEMA).validate(found)
    assert nothing == ""
    end = found.pop("end")
    assert end.pop("nft")["rule_handle"] == 12
    assert end == {
        "kind": "dropped",
        "func": "sk_skb_reason_drop",
        "reason": "SKB_DROP_REASON_NO_SOCKET",
        "location": "__netif_receive_skb_one_core+0x2a",
    }
    sights = found.pop("events")
    assert [sight.pop("offset_ns") for sight in sights] == [0, 84000]
    for sight in sights:
        validated(json.dumps(sight).encode() + b"\n")
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


def test_an_object_has_the_changes_that_lines_have() -> None:
    def seen(told: Told) -> list[str]:
        return told.lines(
            told.seen(IP_OUTPUT, 1000),
            told.seen(IP_RCV, 2200, ends=BEHIND_NAT, ifindex=3),
            told.seen(IP_RCV, 2300, ends=BEHIND_NAT, ifindex=0),
            told.seen(IP_RCV, 2400, ends=BEHIND_NAT, ifindex=3, mark=5),
            told.end(),
        )

    found = json.loads(seen(Told("--output-json"))[0])
    Draft202012Validator(SCHEMA).validate(found)
    changes = [sight.get("changes", []) for sight in found["events"]]
    assert list(map(len, changes)) == [0, 2, 0, 1]
    lines = [line.strip() for line in seen(Told())]
    assert [line for line in lines if line.startswith(("NAT", "dev", "mark"))] == list(
        chain(*changes)
    )
    assert changes[3] == ["mark 0x0 => 0x5"]


def test_kernel_threads_have_their_whole_names() -> None:
    for path, shown in (("ksoftirqd/1", "ksoftirqd/1:7"), ("/usr/bin/ping", "ping:7")):
        told = Told(process=lambda pid, comm, start_stack: path)  # noqa: B023
        lines = told.lines(told.seen(IP_RCV, 1), told.end())
        assert lines[1].endswith(f"cpu 0  {shown}")


def test_what_is_held_is_bounded_and_what_goes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_HELD_EVENTS", 3)
    told = Told()
    told.lines(*(told.seen(IP_RCV, at) for at in range(3)), told.seen(IP_RCV, 4, skb=2, number=2))
    assert told.journeys.summarize() == {"lost_journeys": 3}
    told.journeys.finish()
    assert told.journeys.count == 1


def test_who_reads_no_more_has_read_some() -> None:
    told = Told()

    def write(texts: object) -> None:
        raise OutputClosed(1)

    told.journeys._write = write
    with pytest.raises(OutputClosed):
        told.lines(
            told.seen(IP_RCV, 1), told.seen(IP_RCV, 2), told.end(),
            told.seen(IP_RCV, 3, skb=2, number=2), told.end(2, 2),
        )  # fmt: skip
    assert told.journeys.count == 2


def test_intervals() -> None:
    shown = [
        format_interval(number) for number in (0, 999, 1000, 84_100, 999_000, 3_400_000, 1 << 31)
    ]
    assert shown == ["0 ns", "999 ns", "1.00 us", "84.1 us", "999 us", "3.40 ms", "2.15 s"]


def test_the_table_of_ends() -> None:
    rows = function_tables.load_table("ends")
    assert {row.key for row in rows} <= {*KINDS, RECEIVED}
    names = [name for row in rows for name in row.names]
    assert len(names) == len(set(names))
    assert SCHEMA["properties"]["end"]["properties"]["kind"]["enum"] == list(KINDS)
