"""Records as the handlers write them, and resolvers of the names in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pypwru.btf.parse import parse as parse_btf
from pypwru.btf.query import BTF
from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.names.clock import Clock
from pypwru.names.drop_reasons import DropReasons
from pypwru.names.event_names import NameResolver
from pypwru.names.functions import FunctionNames
from pypwru.nft.record import NFT, NFT_TIME, decode_rule_key
from pypwru.output.json import JsonFormatter
from pypwru.output.printer import Printer
from pypwru.output.text import TextFormatter
from pypwru.wire.fields import CALLER, CB, FLOW, FUNCTION, MAP, METADATA, PACKET, STACK, TUNNEL
from pypwru.wire.record import Record, header_constants
from tests.data.btf_encoder import Encoder
from tests.support.layouts import columns_of, layout_of

HOST, BLUE = 4026531840, 4026532273
LOOPBACK = bytes([127, 0, 0, 1])
ICMP, TCP, UDP, SCTP, ICMP6 = 1, 6, 17, 132, 58
NO_SOCKET = 3
TC, XDP, MAP_CALL, NFT_RULE, NFT_CHAIN_ENTRY, NFT_CHAIN_EXIT = (
    header_constants()[f"EVENT_{name}"]
    for name in ("TC", "XDP", "MAP", "NFT_RULE", "NFT_CHAIN_ENTRY", "NFT_CHAIN_EXIT")
)
POLICY, RETURN, RULE, LEGACY, NO_RULE = 1, 2, 3, 4, 5  # part_nft.type
INET, IP, ARP, NETDEV, BRIDGE = 1, 2, 3, 5, 7
DROP, ACCEPT, JUMP, GOTO = 0, 1, -3, -4
INPUT = 1
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
    10: "nf_hook_slow",
    11: "bpf_prog_f7c8a1f24a6b4746_tc_dummy_prog[bpf]",
    12: "bpf_prog_3b185187f1855c4c_xdp_dummy_prog[bpf]",
    13: "__htab_map_lookup_elem",
    14: "__nft_trace_packet[nf_tables]",
    15: "nft_do_chain[nf_tables]",
}
SYMBOLS = {
    0xFFFFFFFF81000010: "__netif_receive_skb_one_core",
    0xFFFFFFFF81000020: "__ip_local_out",
    0xFFFFFFFF81000030: "ip_push_pending_frames",
    0xFFFFFFFF81000040: "raw_sendmsg",
}
LINKS = {(HOST, 1): "lo", (HOST, 2): "eth0", (HOST, 3): "veth0", (BLUE, 2): "averlongname123"}
RENAMED = 1 << header_constants()["CHAIN_HANDLE_BITS"]
"""In a chain's handle: the chain under its former name."""
CHAINS = {
    1: "input", 2: "web", 3: "deep", 4: "deeper", 5: "deepest", 6: "last", 2 | RENAMED: "shop",
}  # fmt: skip
TABLES = {7: "filter", 8: "nat", 0xFF110000: "mangle"}
RULES = {
    12: ('tcp dport 8443 counter drop comment "no web"', "no web"),
    13: ("counter", ""),
    14: ('-A INPUT -p tcp -m comment --comment "no web" -j DROP', "no web"),
    15: ("", "no web"),
    16: ('log prefix "no reject" reject with tcp reset', ""),
    17: ("-A INPUT -p tcp -j REJECT --reject-with tcp-reset", ""),
    18: ('log prefix "reject" drop', ""),
}
REASONS = {"SKB_NOT_DROPPED_YET": 0, "SKB_CONSUMED": 1, "SKB_DROP_REASON_NO_SOCKET": NO_SOCKET}

Ends = tuple[int, int, bytes, bytes, int, int]
LOCAL_PING: Ends = (4, ICMP, LOOPBACK, LOOPBACK, 0, 0)


def btf_of(*enums: tuple[str, Mapping[str, int]]) -> BTF:
    """Return the BTF of a kernel that has these enums, and nothing else."""
    encoder = Encoder()
    for name, values in enums:
        encoder.enum(name, dict(values))
    return BTF(parse_btf(encoder.bytes()))


class FakeMembers:
    """Members whose text is one word each."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def format_text(self, raw_values: Sequence[int]) -> str:
        return "".join(f" {name}={value}" for name, value in self.json_values(raw_values).items())

    def json_values(self, raw_values: Sequence[int]) -> dict[str, object]:
        return dict(zip(self.names, raw_values, strict=False))


def packet(
    skb: int, cpu: int, pid: int, kind: int = 0, comm: bytes = b"", start_stack: int = 0
) -> bytes:
    return PACKET.pack(skb, pid, cpu, kind, comm, start_stack)


def flow(
    netns: int = HOST,
    mark: int = 0,
    ifindex: int = 0,
    mtu: int = 65536,
    size: int = 84,
    protocol: int = 0x0800,
    ends: Ends = LOCAL_PING,
    flags: int = 0,
    ifname: str | None = None,
    cookie: int = 0,
    is_message: bool = False,
    is_shared: bool = False,
) -> bytes:
    """Pack the flow part; without ``ifname`` the name is that of LINKS."""
    l3, l4, source, destination, sport, dport = ends
    ports = sport.to_bytes(2, "big"), dport.to_bytes(2, "big")
    name = LINKS.get((netns, ifindex), "") if ifname is None else ifname
    where = netns, mark, cookie, ifindex, mtu, os.fsencode(name), size
    kind = protocol.to_bytes(2, "big")
    return FLOW.pack(
        *where, kind, l3, l4, source, destination, *ports, flags, is_message, is_shared
    )


def tunnel(ends: Ends = (0, 0, b"", b"", 0, 0), flags: int = 0) -> bytes:
    l3, l4, source, destination, sport, dport = ends
    ports = sport.to_bytes(2, "big"), dport.to_bytes(2, "big")
    return TUNNEL.pack(source, destination, *ports, l3, l4, flags)


def bpf_map(number: int, name: bytes, key: bytes, value: bytes) -> bytes:
    return MAP.pack(number, len(key), len(value), name, key, value)


def nft(
    rule: int = 0,
    verdict: int = DROP,
    chain: int = 1,
    path: Sequence[int] = (),
    target: int = 0,
    table: int = 7,
    netns: int = HOST,
    priority: int = 0,
    family: int = INET,
    hook: int = INPUT,
    type: int = RULE,
    depth: int | None = None,
) -> bytes:
    """Pack ``struct part_nft`` of a rule, or a policy, of ``inet filter input``."""
    jumps = len(path) if depth is None else depth
    above = [*path, 0, 0, 0, 0][:4]
    place = netns, verdict, priority, family, hook, type, jumps
    return NFT.pack(table, chain, rule, target, *above, *place)


FOREIGN_DROP = NFT.pack(*[0] * 13, NO_RULE, 0)
"""``struct part_nft`` of a packet that another hook's function drops."""


def nft_time(ktime: int) -> bytes:
    return NFT_TIME.pack(ktime)


def stack(*frames: int) -> bytes:
    return STACK.pack(*frames, *[0] * (50 - len(frames)))


def caller(address: int) -> bytes:
    return CALLER.pack(address, *[0] * 7)


def cb(*words: int) -> bytes:
    return CB.pack(*words)


def metadata(*values: int) -> bytes:
    return METADATA.pack(*values, *[0] * (4 - len(values)))


def event(
    packet: bytes,
    function: int,
    flow: bytes,
    ktime: int = 0,
    reason: int = 0,
    tail: bytes = b"",
) -> Record:
    return Record(packet, FUNCTION.pack(function, reason), ktime, flow, tail)


def tail(config: Config, **parts: bytes) -> bytes:
    """Return the tail of a run's records; a part that isn't given is zero, a packet_id is 1."""
    layout = layout_of(config)
    if "packet_id" in layout.parts:
        parts.setdefault("packet_id", (1).to_bytes(8, "little"))
    octets = bytearray(layout.tail_size)
    for name, place in layout.parts.items():
        given = parts.pop(name, b"")
        assert len(given) <= place.size, name
        octets[place.offset : place.offset + len(given)] = given
    assert not parts, f"the run has no {parts}"
    return bytes(octets)


def configured(flags: str) -> Config:
    # --output-bpfmap needs the helpers' functions to be traced.
    more = ["--filter-track-bpf-helpers"] if "--output-bpfmap" in flags else []
    config = parse(flags.split() + more)
    assert isinstance(config, Config)
    return config


def chain_names(netns: int, table: int, chain: int) -> tuple[str, str]:
    return TABLES.get(table, ""), CHAINS.get(chain, "")


def rule_text(part: bytes, at: int) -> tuple[str, str] | None:
    """Return texts of RULES, which are known until the end of the first second."""
    return RULES.get(decode_rule_key(part)[-1]) if at < 1_000_000_000 else None


def names(
    process: Callable[[int, str, int], str] = lambda pid, comm, start_stack: "/usr/bin/ping",
    clock: Clock | None = None,
) -> NameResolver:
    functions = FunctionNames(FUNCTIONS, DropReasons(btf_of(("skb_drop_reason", REASONS)), list))
    return NameResolver(
        process=process,
        namespace=lambda netns, cookie: "blue" if netns == BLUE else "",
        function=functions.text,
        is_drop=functions.is_drop,
        caller=lambda frames: SYMBOLS[frames[0]] if frames[:1] and frames[0] in SYMBOLS else "0x0",
        location=lambda frames: f"{SYMBOLS.get(frames[0], '?')}+0x2a" if frames else "",
        stack=lambda frames: [SYMBOLS.get(address, f"{address:#x}") for address in frames],
        chain=chain_names,
        rule=rule_text,
        skb_members=FakeMembers("len", "mark"),
        xdp_members=FakeMembers("queue_index"),
        clock=clock or Clock(lambda: 0),
    )


class Output:
    """A printer and what it wrote; ``flags`` as on the command line."""

    def __init__(
        self,
        flags: str = "",
        program: str | Callable[[int, str, int], str] = "/usr/bin/ping",
        clock: Clock | None = None,
        **more: Any,
    ) -> None:
        self.config = configured(flags)
        self.writes: list[bytes] = []
        shown = columns_of(self.config)
        self.printer = Printer(
            JsonFormatter(shown) if self.config.output_json else TextFormatter(shown),
            names(program if callable(program) else lambda pid, comm, start_stack: program, clock),
            lambda events: self.writes.append(b"".join(events)),
            layout_of(self.config),
            **more,
        )

    def print(self, *batch: Record) -> bytes:
        """Print records; one without a tail gets one in which everything is zero."""
        nothing = bytes(layout_of(self.config).tail_size)
        self.writes.clear()
        self.printer.show([one._replace(tail=one.tail or nothing) for one in batch])
        return b"".join(self.writes)

    def lines(self, *batch: Record) -> list[str]:
        return self.print(*batch).decode().splitlines()

    def header(self) -> str:
        self.writes.clear()
        self.printer.print_header()
        return b"".join(self.writes).decode()
