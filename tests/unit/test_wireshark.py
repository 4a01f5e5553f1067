"""contrib/wireshark in tshark: comments become fields, filters, columns and a colour."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import PcapNgWriter

from pypwru.go_values import format_log_value
from pypwru.output.packet_comment import CommentRenderer
from tests.support import records
from tests.support.captures import AS_ROOT, SCRIPT
from tests.support.layouts import layout_of
from tests.support.need import need
from tests.support.paths import TREE

CONTRIB = TREE / "contrib" / "wireshark"
FRAME = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP() / ICMP()

FORWARDED = {
    "func": "ip_forward",
    "skb": "0xffff8881002a7b00",
    "process": "/usr/bin/ping",
    "pid": "4294967295",
    "cpu": "3",
    "netns": "4026531840",
    "netns_name": "blue",
    "iface": "eth0",
    "type": "function_call",
}
DROPPED = {
    "func": "kfree_skb_reason",
    "skb": "0xffff8881002a7c00",
    "process": 'my "own" = process',
    "pid": "7",
    "type": "drop",
    "drop_reason": "SKB_DROP_REASON_NETFILTER_DROP",
    "nft.chain": "inet filter input",
    "nft.rule": "#12 drop",
    "nft.verdict": "drop",
    "nft.text": 'tcp dport 80 drop comment "no \\ web"',
    "nft.comment": "no \\ web",
}
ESCAPED = (
    "",
    "a b",
    'a"b',
    "a\\b",
    "a=b",
    "\\x41",
    "tab\t, bell\a, line\nbreak",
    "\x1b[31m",
    "naïve",
    "non\u00a0breaking",
    "\u2028€",
    "\U0001f600 \U000e0001",
    "a\\",
    '\\"',
    "n41\\n41",
)
FOREIGN = (
    "just a comment",
    "func=ip_forward",
    "func=ip_forward skb=12",
    "func=ip_forward skb=0xfffffffffffffffff",
    'func=ip_forward skb=0x1 process="no end',
    'func=ip_forward skb=0x1 process="no end\\"',
    'func=ip_forward skb=0x1 process="a"b',
    "func=ip_forward skb=0x1 process=a=b",
    "func=ip_forward skb=0x1 word",
    "func=ip_forward skb=0x1 ",
    "func=ip_forward  skb=0x1",
    "func=ip_forward skb=0x1\nsecond line",
    "func= skb=0x1",
    " func=ip_forward skb=0x1",
    "=",
    '"',
    "%s%n \\",
)


def comment(values: dict[str, str]) -> str:
    return " ".join(f"{key}={format_log_value(value)}" for key, value in values.items())


Tshark = Callable[..., str]


@pytest.fixture
def tshark(tmp_path: Path) -> Tshark:
    """Return a function that runs tshark with the script; it must not print a warning."""
    return make_tshark(tmp_path, "-X", f"lua_script:{SCRIPT}")


def make_tshark(folder: Path, *fixed: str, frame: Packet = FRAME) -> Tshark:
    need(shutil.which("tshark"), "tshark (package tshark)")
    capture = folder / "capture.pcapng"

    def run(packets: Sequence[Sequence[str]], *words: str) -> str:
        write(capture, packets, frame)
        done = subprocess.run(
            ["tshark", "-r", str(capture), *fixed, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        )
        assert done.stderr.replace(AS_ROOT, "") == ""
        assert done.returncode == 0
        return done.stdout

    return run


def write(file: Path, packets: Sequence[Sequence[str]], frame: Packet = FRAME) -> None:
    """Write packets with the given comments, by scapy's writer."""
    with PcapNgWriter(str(file)) as writer:
        for comments in packets:
            packet = frame.copy()
            packet.comments = [os.fsencode(text) for text in comments]
            writer.write(packet)


def fields(tshark: Tshark, packets: Sequence[Sequence[str]], *keys: str) -> list[list[str]]:
    """Return the values of fields by packet; several values are separated by commas."""
    options = [word for key in keys for word in ("-e", f"pypwru.{key}")]
    out = tshark(packets, "-T", "fields", *options)
    return [line.split("\t") for line in out.splitlines()]


def matching_packets(
    tshark: Tshark, packets: Sequence[Sequence[str]], expression: str
) -> list[int]:
    """Return the numbers of the packets that match a display filter, from 1."""
    out = tshark(packets, "-Y", expression, "-T", "fields", "-e", "frame.number")
    return list(map(int, out.split()))


@pytest.mark.parametrize("values", [FORWARDED, DROPPED], ids=["forwarded", "dropped"])
def test_every_key_is_a_field(tshark: Tshark, values: dict[str, str]) -> None:
    (found,) = fields(tshark, [[comment(values)]], *values)
    # tshark escapes its output
    assert [value.replace("\\\\", "\\") for value in found] == list(values.values())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('pypwru.func == "ip_forward" && pypwru.type == "function_call"', [1]),
        ('pypwru.drop_reason contains "NETFILTER"', [2]),
        ("pypwru.nft.rule", [2]),
        ('pypwru.nft.rule matches "^#12 " && pypwru.nft.text contains "comment \\"no"', [2]),
        ("pypwru.skb == 0xffff8881002a7b00 && !(pypwru.skb >= 0xffff8881002a7c00)", [1]),
        ("pypwru.pid < 8 || (pypwru.pid == 4294967295 && pypwru.cpu in {2..3})", [1, 2]),
        ('pypwru.netns == 4026531840 && pypwru.netns_name == "blue"', [1]),
        ('pypwru.process == "my \\"own\\" = process"', [2]),
        ("pypwru.dropped", [2]),
    ],
)
def test_display_filters(tshark: Tshark, expression: str, expected: list[int]) -> None:
    packets = [[comment(FORWARDED)], [comment(DROPPED)], []]
    assert matching_packets(tshark, packets, expression) == expected


def test_escapes_are_undone(tshark: Tshark) -> None:
    """A display filter compares each octet of the unescaped value."""
    packets = [[comment({**FORWARDED, "nft.text": text, "type": "end"})] for text in ESCAPED]
    conditions = []
    for number, text in enumerate(ESCAPED, start=1):
        octets = "".join(f"\\x{octet:02x}" for octet in text.encode())
        conditions.append(f'(frame.number == {number} && pypwru.nft.text == "{octets}")')
    everything = list(range(1, len(ESCAPED) + 1))
    assert matching_packets(tshark, packets, " || ".join(conditions)) == everything
    assert matching_packets(tshark, packets, 'pypwru.type == "end"') == everything


def test_unprintable_text_stays_escaped(tshark: Tshark) -> None:
    packets = [[comment({**FORWARDED, "process": text})] for text in ("\0", "\udc80")]
    found = [value.replace("\\\\", "\\") for (value,) in fields(tshark, packets, "process")]
    assert found == ["\\x00", "\\x80"]


def test_other_comments_are_ignored(tshark: Tshark) -> None:
    packets = [[text] for text in FOREIGN] + [[*FOREIGN, comment(FORWARDED), *FOREIGN]]
    assert fields(tshark, packets, "func") == [[""]] * len(FOREIGN) + [["ip_forward"]]


def test_invalid_number_loses_its_field_only(tshark: Tshark) -> None:
    packets = [[comment({**FORWARDED, "pid": "4294967296", "cpu": "one"})]]
    assert fields(tshark, packets, "func", "pid", "cpu", "iface") == [
        ["ip_forward", "", "", "eth0"]
    ]


def test_comment_of_pypwru(tshark: Tshark) -> None:
    config = records.configured("--output-nft=text --output-pcap x.pcapng")
    parts = records.tail(config, nft=records.nft(12))
    dropped = records.event(
        records.packet(0xFFFF8881002A7C00, 3, 7),
        5,
        records.flow(records.BLUE, ifindex=2),
        reason=records.NO_SOCKET,
        tail=parts,
    )
    comments = CommentRenderer(
        layout_of(config), records.names(process=lambda pid, comm, start_stack: "/opt/a b")
    ).render([dropped])
    expected = {
        "func": "sk_skb_reason_drop",
        "skb": "0xffff8881002a7c00",
        "process": "/opt/a b",
        "pid": "7",
        "cpu": "3",
        "type": "drop",
        "netns": str(records.BLUE),
        "netns_name": "blue",
        "iface": "averlongname123",
        "drop_reason": "SKB_DROP_REASON_NO_SOCKET",
        "nft.chain": "inet filter input",
        "nft.rule": "#12 drop",
        "nft.verdict": "drop",
        "nft.text": 'tcp dport 8443 counter drop comment "no web"',
        "nft.comment": "no web",
    }
    (found,) = fields(tshark, [[comments[0].decode()]], *expected)
    assert dict(zip(expected, found, strict=True)) == expected


def test_unknown_keys_are_ignored(tshark: Tshark) -> None:
    packets = [[comment({**FORWARDED, "later_version": "x y"})]]
    assert fields(tshark, packets, "func") == [["ip_forward"]]


def test_packet_of_several_events(tshark: Tshark) -> None:
    packets = [[comment(FORWARDED), comment(DROPPED)]]
    assert fields(tshark, packets, "func", "pid") == [
        ["ip_forward,kfree_skb_reason", "4294967295,7"]
    ]
    assert matching_packets(tshark, packets, "pypwru.cpu == 3 && pypwru.dropped") == [1]


def install(home: Path) -> None:
    """Install the plugin as its README describes."""
    plugins = home / ".local" / "lib" / "wireshark" / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(SCRIPT, plugins)
    profiles = home / ".config" / "wireshark" / "profiles"
    shutil.copytree(CONTRIB / "pypwru", profiles / "pypwru")


def test_repeated_packet_is_no_retransmission(tmp_path: Path) -> None:
    """A packet has an event per function: the profile disables the analysis of TCP sequences."""
    install(tmp_path)
    packets = [[comment(FORWARDED)]] * 3
    segment = FRAME.copy()
    segment[IP].payload = TCP(sport=1, dport=2, seq=5, flags="PA") / b"text"
    for words, count in (((), 2), (("-C", "pypwru"), 0)):
        tshark = make_tshark(tmp_path, *words, frame=segment)
        lines = tshark(packets, "-Y", "tcp.analysis.flags").splitlines()
        assert len(lines) == count, lines


def test_installed_plugin_and_profile(tmp_path: Path) -> None:
    """Columns and the colour of a drop."""
    install(tmp_path)
    tshark = make_tshark(tmp_path, "-C", "pypwru")
    packets = [[comment(FORWARDED)], [comment(DROPPED)]]

    forwarded, dropped = tshark(packets).splitlines()
    assert "ip_forward /usr/bin/ping" in forwarded
    for text in ("kfree_skb_reason", "SKB_DROP_REASON_NETFILTER_DROP", "#12 drop"):
        assert text in dropped
    rule = ["--color", "-T", "fields", "-e", "frame.number", "-e", "frame.coloring_rule.name"]
    assert tshark(packets, *rule).split("\n")[:2] == ["1\t", "2\tpypwru: dropped"]
