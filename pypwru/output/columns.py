"""The columns of a line: one row a column, which every output reads.

Widths, alignment and order are pwru's (its ``output.go``); a row says which part of a record it is
made of, so that a printer can keep the text of a part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pypwru.config import Config, Nft, Timestamp
from pypwru.events.record import constants
from pypwru.output import conntrack, hexdump, nft, tuples
from pypwru.output.parts import Flow, Function, Map, Metadata, Packet, Part

if TYPE_CHECKING:
    from pypwru.output.clock import Clock

NAME_WIDTH = 16
_FUNCTION = constants()["EVENT_FUNCTION"]
_XDP = constants()["EVENT_XDP"]
_TYPES = {
    constants()[f"EVENT_{name}"]: word
    for name, word in {
        "FUNCTION": "function_call",
        "TC": "tc",
        "XDP": "xdp",
        "MAP": "map",
        "NFT_RULE": "nft_rule",
        "NFT_IN": "nft_chain",
        "NFT_OUT": "nft_chain",
    }.items()
}


class Members(Protocol):
    """Members of a struct that were asked for: ``pypwru.expression``'s."""

    def text(self, values: Sequence[int]) -> str:
        """`` name=value name=value``."""

    def values(self, values: Sequence[int]) -> Mapping[str, object]:
        """Name to value."""


class Names(NamedTuple):
    """Where numbers get their names: methods of ``pypwru.resolve``, and stand-ins in tests.

    Args:
        process: (pid, the task's name, where its stack begins) to the program's path or name; empty
            when it isn't known.
        namespace: (inode, cookie) of a network namespace to its name; empty when it has none.
        function: (address, drop reason, kind of event) to the function's text.
        drops: (address, drop reason) to whether that is the end of a packet that is thrown away.
        caller: return addresses to the name of the function that called the traced one.
        location: the same, with how far in that function: ``tcp_v4_rcv+0x9a1``; empty for none.
        stack: return addresses to the names of functions, from the traced one on.
        chain: (inode of a network namespace, handles of table and chain) to their names; empty
            where they aren't known.
        rule: from a part of nftables, and when it was said, to text and comment of the rule; None
            where it isn't known.
        skb_members, xdp_members: of --output-skb-metadata and --output-xdp-metadata.
        clock: kernel time to the times that are shown.
        escape: makes a name that others chose fit for the output.
    """

    process: Callable[[int, str, int], str]
    namespace: Callable[[int, int], str]
    function: Callable[[int, int, int], str]
    drops: Callable[[int, int], bool]
    caller: Callable[[Sequence[int]], str]
    location: Callable[[Sequence[int]], str]
    stack: Callable[[Sequence[int]], Sequence[str]]
    chain: nft.ChainNames
    rule: Callable[[bytes, int], tuple[str, str] | None]
    skb_members: Members | None
    xdp_members: Members | None
    clock: Clock
    escape: Callable[[str], str] = str


def _same(value: Any) -> Any:
    return value


def _always(config: Config) -> bool:
    return True


class Column(NamedTuple):
    """One column.

    Args:
        name: the key of JSON and of statistics.
        header: its title.
        width: a ``%`` format of the title and of the text.
        part: what its value depends on.
        value: ``(fields, names)`` to a plain value; ``fields`` is what ``parts.READERS`` make of the
            part, and ``(which packet it is, ktime)`` for a time.
        text: that value as it is printed, before ``width``; None where lines don't have it.
        json: that value as it is in an object, None where it is left out.
        lead: what stands between the column and the one before.
        grows: the text is padded to the longest one so far.
        centered: bytes in which title and text are centred, and to which the text is cut; 0 for not.
        enabled: which runs have it.
    """

    name: str
    header: str
    width: str
    part: Part
    value: Callable[[Any, Names], Any]
    text: Callable[[Any], str] | None = str
    json: Callable[[Any], Any] = _same
    lead: str = " "
    grows: bool = False
    centered: Callable[[Config], int] = lambda config: 0
    enabled: Callable[[Config], bool] = _always


def center(text: str, width: int) -> str:
    """``text`` between spaces, the odd one on the right; lengths in bytes, as in pwru."""
    missing = max(width - len(os.fsencode(text)), 0)
    return " " * (missing // 2) + text + " " * (missing - missing // 2)


def cut(text: str) -> str:
    """``text``, or its last 16 bytes with ``~`` for the first of them."""
    octets = os.fsencode(text)
    if len(octets) <= NAME_WIDTH:
        return text
    return "~" + os.fsdecode(octets[1 - NAME_WIDTH :])


def fit(text: str, width: int) -> str:
    """The first ``width`` bytes of ``text``, centred in as many."""
    return center(os.fsdecode(os.fsencode(text)[:width]), width)


def program(packet: Packet, names: Names) -> str:
    """Path of the process; where it isn't known the task's name; empty for no process."""
    path = names.process(packet.pid, packet.comm, packet.start_stack)
    return names.escape(path or (packet.comm if packet.pid else ""))


def process(packet: Packet, names: Names) -> str:
    """``path:pid``, ``name:pid``, or ``<empty>:0``."""
    path = program(packet, names)
    return cut(f"{path}:{packet.pid}") if path else f"<empty>:{packet.pid}"


def interface(flow: Flow, names: Names) -> str:
    """``name:ifindex``, or the bare ifindex."""
    name = names.escape(flow.ifname)
    return cut(f"{name}:{flow.ifindex}") if name else str(flow.ifindex)


def namespace(flow: Flow, names: Names) -> str:
    """The name of the network namespace."""
    return names.escape(names.namespace(flow.netns, flow.netns_cookie))


def event_type(function: Function, names: Names) -> str:
    """What was seen: ``function_call``, ``drop``, ``nft_rule``, ..."""
    if function.kind == _FUNCTION and names.drops(function.address, function.reason):
        return "drop"
    return _TYPES[function.kind]


def name_and_reason(function: Function, names: Names) -> tuple[str, str]:
    """The function's name, and the word of its drop reason; empty where it is none of a drop."""
    name, _, behind = names.function(*function).partition("(")
    # Some functions show the reason of a packet that did its work, too.
    reason = behind.rstrip(")") if event_type(function, names) == "drop" else ""
    return name.rstrip(), reason


Asked = tuple[Members, Sequence[int]]


def skb_members(metadata: Metadata, names: Names) -> Asked | None:
    """The members of an sk_buff, and their values."""
    members = names.skb_members
    return (members, metadata.values) if members and metadata.kind != _XDP else None


def xdp_members(metadata: Metadata, names: Names) -> Asked | None:
    """The members of an xdp_buff, and their values."""
    members = names.xdp_members
    return (members, metadata.values) if members and metadata.kind == _XDP else None


def _members_text(asked: Asked | None) -> str:
    return asked[0].text(asked[1]) if asked else ""


def _members_json(asked: Asked | None) -> Mapping[str, object] | None:
    return (asked[0].values(asked[1]) or None) if asked else None


def _cb_text(words: Sequence[int]) -> str:
    return "[" + ",".join(f"0x{word:08X}" for word in words) + "]"


def _below(lines: str) -> str:
    return f"\n{lines}" if lines else ""


def _map_text(called: Map) -> str:
    if not called.id:
        return ""
    return (
        f"\nmap_id: {called.id}\nmap_name: {called.name}\n"
        f"key({called.key_size}):\n{hexdump.dump(called.key)}"
        f"value({called.value_size}):\n{hexdump.dump(called.value)}"
    )


def _map_json(called: Map) -> dict[str, object] | None:
    octets = {"key": called.key.hex(), "value": called.value.hex()}
    return called._asdict() | octets if called.id else None


def _meta(config: Config) -> bool:
    return config.output_meta


def _tuple(shown: str, flags: bool) -> Callable[[Config], bool]:
    """Runs that show a tuple, with or without TCP flags."""
    return lambda config: getattr(config, shown) and config.output_tcp_flags == flags


def _nft(mode: Nft) -> Callable[[Config], bool]:
    return lambda config: config.output_nft is mode


# fmt: off
# ruff: noqa: E501 -- a table: one row a column
_TUPLE = (partial(tuples.text, flags=False), partial(tuples.members, flags=False))
_TUPLE_FLAGS = (partial(tuples.text, flags=True), partial(tuples.members, flags=True))

COLUMNS: tuple[Column, ...] = (
    Column("time", "TIME", "%-23s", Part.TIME, lambda event, names: names.clock.wall(event[1]), enabled=lambda config: config.timestamp is Timestamp.ABSOLUTE),
    Column("skb", "SKB", "%-18s", Part.PACKET, lambda packet, names: packet.skb, hex, hex),
    Column("cpu", "CPU", "%-3s", Part.PACKET, lambda packet, names: packet.cpu),
    Column("process", "PROCESS", "%-16s", Part.PACKET, process),
    Column("timestamp", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: event[1], enabled=lambda config: config.timestamp is Timestamp.ABSOLUTE),
    Column("time", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: event[1], enabled=lambda config: config.timestamp is Timestamp.CURRENT),
    Column("time", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: names.clock.since(*event), enabled=lambda config: config.timestamp is Timestamp.RELATIVE),
    Column("netns", "NETNS", "%-10s", Part.FLOW, lambda flow, names: flow.netns, enabled=_meta),
    Column("mark", "MARK/x", "%-8s", Part.FLOW, lambda flow, names: flow.mark, "{:x}".format, enabled=_meta),
    Column("iface", "IFACE", "%16s", Part.FLOW, interface, centered=lambda config: NAME_WIDTH, enabled=_meta),
    Column("proto", "PROTO", "%-6s", Part.FLOW, lambda flow, names: flow.protocol, "0x{:04x}".format, enabled=_meta),
    Column("mtu", "MTU", "%-5s", Part.FLOW, lambda flow, names: flow.mtu, enabled=_meta),
    Column("len", "LEN", "%-5s", Part.FLOW, lambda flow, names: flow.len, enabled=_meta),
    Column("cb", "__sk_buff->cb[]", "%-56s", Part.CB, lambda words, names: words, _cb_text, enabled=lambda config: config.shows_cb),
    Column("netns_name", "NETNS NAME", "%s", Part.FLOW, namespace, str, lambda name: name or None, lead="", centered=lambda config: config.netns_names_max_length, enabled=lambda config: config.output_netns_names),
    Column("tuple", "TUPLE", "%s", Part.FLOW, lambda flow, names: tuples.tuple_of(flow), *_TUPLE, grows=True, enabled=_tuple("output_tuple", flags=False)),
    Column("tuple", "TUPLE", "%s", Part.FLOW, lambda flow, names: tuples.tuple_of(flow), *_TUPLE_FLAGS, grows=True, enabled=_tuple("output_tuple", flags=True)),
    Column("func", "FUNC", "%s", Part.FUNCTION, lambda function, names: names.function(*function), enabled=lambda config: not config.output_caller),
    Column("func", "FUNC", "%s", Part.FUNCTION, lambda function, names: names.function(*function), grows=True, enabled=lambda config: config.output_caller),
    Column("type", "", "", Part.FUNCTION, event_type, None),
    Column("caller_func", "CALLER", "%s", Part.CALLER, lambda frames, names: names.caller(frames), enabled=lambda config: config.output_caller),
    Column("location", " LOCATION", "%s", Part.LOCATION, lambda frames, names: names.location(frames) if frames else "", lambda place: place and f" {place}", lambda place: place or None, lead="", enabled=lambda config: config.drops),
    *(Column("nft", " NFT-CHAIN NFT-RULE", "%s", Part.NFT, lambda part, names: nft.said(part, names.chain), partial(nft.line, mode=mode), nft.members, lead="", enabled=_nft(mode)) for mode in (Nft.YES, Nft.TEXT, Nft.HOOK)),
    Column("ct", " CT", "%s", Part.CT, lambda fields, names: conntrack.connection(*fields), conntrack.text, conntrack.members, lead="", enabled=lambda config: config.output_ct),
    Column("skb_members", "", "%s", Part.METADATA, skb_members, _members_text, _members_json, lead="", enabled=lambda config: bool(config.output_skb_metadata)),
    Column("xdp_members", "", "%s", Part.METADATA, xdp_members, _members_text, _members_json, lead="", enabled=lambda config: bool(config.output_xdp_metadata)),
    Column("packet_id", "", "", Part.IDENTITY, lambda fields, names: fields[0], None, lambda number: number or None, enabled=lambda config: config.identifies),
    Column("stack", "", "%s", Part.STACK, lambda frames, names: "".join(f"\n{name}" for name in names.stack(frames)), str, lambda lines: lines or None, lead="", enabled=lambda config: config.output_stack),
    Column("skb_metadata", "", "%s", Part.SKB, lambda dump, names: _below(dump), lead="", enabled=lambda config: config.output_skb),
    Column("skb_shared_info", "", "%s", Part.SHINFO, lambda dump, names: _below(dump), str, lambda lines: lines or None, lead="", enabled=lambda config: config.output_skb_shared_info),
    Column("tunnel_tuple", "TUNNEL", "%s", Part.TUNNEL, lambda tunnel, names: tuples.tuple_of(tunnel), *_TUPLE, enabled=_tuple("output_tunnel", flags=False)),
    Column("tunnel_tuple", "TUNNEL", "%s", Part.TUNNEL, lambda tunnel, names: tuples.tuple_of(tunnel), *_TUPLE_FLAGS, enabled=_tuple("output_tunnel", flags=True)),
    Column("bpfmap", "", "%s", Part.MAP, lambda called, names: called, _map_text, _map_json, lead="", enabled=lambda config: config.output_bpfmap),
)
# fmt: on


def columns(config: Config) -> tuple[Column, ...]:
    """The columns of a run, in the order of its lines."""
    return tuple(_fitted(column, config) for column in COLUMNS if column.enabled(config))


def _fitted(column: Column, config: Config) -> Column:
    width = column.centered(config)
    if not width:
        return column
    return column._replace(header=center(column.header, width), text=partial(fit, width=width))
