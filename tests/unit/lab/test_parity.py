"""The oracle of the parity suite finds differences: each kind of finding, once."""

from __future__ import annotations

import pytest

from pypwru.cli.flags import parse
from pypwru.config import Config
from tests.lab.parity.compare import compare_live, compare_recorded
from tests.lab.parity.printed import UnknownForm, events
from tests.lab.parity.tracking import SCENARIOS, shown

HEADER = "SKB                CPU PROCESS          TUPLE FUNC\n"
REQUEST = "192.0.2.1:0->192.0.2.254:0(icmp)"
FIRST = f"0xff184d00c08b6300 1   ~sr/bin/ping:264 {REQUEST} ip_output\n"
SECOND = f"0xff184d00c08b6300 1   ~sr/bin/ping:264 {REQUEST} ip_rcv\n"


def config(*words: str) -> Config:
    parsed = parse(["--output-meta=false", *words])
    assert isinstance(parsed, Config)
    return parsed


def live(pwru_output: str, our_output: str, *words: str) -> list[tuple[str, str]]:
    findings = compare_live("x", config(*words), pwru_output, our_output, old=False)
    return [(one.what, one.function) for one in findings]


@pytest.mark.parametrize(
    ("our_output", "findings"),
    [
        (HEADER + FIRST + SECOND, []),
        (HEADER + FIRST, [("missing", "ip_rcv")]),
        (FIRST + SECOND, [("header", "")]),
        (HEADER + FIRST + SECOND + SECOND, [("extra", "ip_rcv")]),
        (HEADER + SECOND + FIRST, [("missing", "ip_output"), ("extra", "ip_output")]),
        (HEADER + FIRST.replace(" 1 ", " 0 ") + SECOND, []),
        (
            HEADER + (FIRST + SECOND).replace(" 1 ", " 0 "),
            [("cpu", "ip_output"), ("cpu", "ip_rcv")],
        ),
        (HEADER + FIRST.replace("icmp", "udp") + SECOND, [("tuple", "ip_output")]),
        (HEADER + FIRST.replace(" ip_", "  ip_") + SECOND, [("line", "ip_output")]),
        (HEADER + FIRST + "ip_output\n" + SECOND, [("more", "ip_output")]),
    ],
)
def test_compare_live_runs(our_output: str, findings: list[tuple[str, str]]) -> None:
    assert live(HEADER + FIRST + SECOND, our_output) == findings


def test_only_timestamps_may_differ() -> None:
    head = HEADER.replace("TUPLE", "TIMESTAMP        TUPLE")
    pwru_output = FIRST.replace(REQUEST, f"{71639303161:<16} {REQUEST}")
    our_output = pwru_output.replace("71639303161", "71639309999")
    assert live(head + pwru_output, head + our_output, "--timestamp", "current") == []
    assert live(
        head + pwru_output, head + our_output.replace("9999 ", "9999"), "--timestamp", "current"
    )


@pytest.mark.parametrize(
    ("our_output", "findings"),
    [
        (SECOND.replace("c08b6300 1", "c0ab5a00 0").replace(":264", ":99 "), []),
        ("", ["events", "missing"]),
        (FIRST, ["missing", "extra"]),
        (SECOND.replace("192.0.2.1", "192.0.2.7"), ["missing", "extra"]),
        (SECOND.replace("\n", " tail\n"), ["tail"]),
        (SECOND + "ip_rcv\nip_rcv_core\n", ["more"]),
    ],
)
def test_compare_with_recorded_run(our_output: str, findings: list[str]) -> None:
    compared = compare_recorded("x", config(), HEADER + SECOND, HEADER + our_output, steady="")
    assert [one.what for one in compared] == findings


def test_unknown_line_is_an_error() -> None:
    with pytest.raises(UnknownForm):
        events(HEADER + FIRST.replace("->", "-"), config())
    with pytest.raises(UnknownForm):
        events("{", config("--output-json"))


def test_all_columns_are_parsed() -> None:
    line = (
        "2026-11-23T04:18:33.584 0xff184d00c0ab5a00 0   ~sr/bin/ping:525 111192926388     "
        "4026531840 2a           near0:2      0x0800 1500  84    "
        "[0x00000000,0x00000001,0x00000000,0x00000000,0x00000000]      near       "
        "192.0.2.1:59919->192.0.2.2:4789(udp) kfree_skb_reason (65536)"
        " ip_rcv len=84 10.77.0.1:0->10.77.0.2:0(icmp)"
    )
    words = "--timestamp=absolute --output-skb-cb --output-netns-names --output-caller"
    parsed = parse(words.split())
    assert isinstance(parsed, Config)
    (event,) = events(line, parsed)[1]
    assert event.fields == {
        "time": "2026-11-23T04:18:33.584",
        "skb": "0xff184d00c0ab5a00",
        "cpu": "0",
        "process": "~sr/bin/ping:525",
        "timestamp": "111192926388",
        "netns": "4026531840",
        "mark": "2a",
        "iface": "near0:2",
        "proto": "0x0800",
        "mtu": "1500",
        "len": "84",
        "cb": "0x00000000,0x00000001,0x00000000,0x00000000,0x00000000",
        "netns_name": "near",
        "tuple": "192.0.2.1:59919->192.0.2.2:4789(udp)",
        "func": "kfree_skb_reason (65536)",
        "caller": "ip_rcv",
        "tail": " len=84 10.77.0.1:0->10.77.0.2:0(icmp)",
    }
    assert event.function == "kfree_skb_reason"


def test_lines_of_pwru_1_0_5() -> None:
    head = "               SKB    CPU          PROCESS                     FUNC\n"
    start = "0xff13cf5c860ef100      0      [ping(400)]         veth_xmit\t[veth]"
    meta = "netns=4026532177 mark=0x2a iface=2(near0) proto=0x0800 mtu=1500 len=98"
    for columns, words in ((f"{meta} {REQUEST}", ()), (REQUEST, ("--output-meta=false",))):
        parsed = parse(words)
        assert isinstance(parsed, Config)
        (event,) = events(f"{head}{start} {columns}\n", parsed, old=True)[1]
        assert event.function == "veth_xmit"
        assert event.fields["process"] == "ping:400"
        assert event.tuple == REQUEST
        assert (event.fields.get("iface"), event.fields.get("mark")) in {
            ("near0:2", "2a"),
            (None, None),
        }


def test_scenario_is_a_line() -> None:
    line = "x 192.0.2.1:4201->198.51.100.1:80(tcp) ip_output"
    assert shown(SCENARIOS["nat"], f"a\n{line}\nb\n")
    assert not shown(SCENARIOS["nat"], line.replace("198.51.100.1", "203.0.113.1"))
