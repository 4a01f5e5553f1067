"""The table of columns, one row per column, which every output uses.

Widths, alignment and order are those of pwru (its ``output.go``). Each row names the part of a
record that its value depends on, so that the printer can cache the text of a part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.config import Config, NftOutput, Timestamp
from pypwru.names.event_names import MemberFormatter, event_type
from pypwru.nft import render
from pypwru.output import conntrack, hexdump, tuples
from pypwru.wire.fields import FlowFields, MapCall, MetadataFields, PacketFields, Part, has_part
from pypwru.wire.kinds import XDP

if TYPE_CHECKING:
    from pypwru.names.event_names import NameResolver
    from pypwru.wire.layout import RecordLayout

NAME_WIDTH = 16
_XDP = XDP.number


def _unchanged(value: Any) -> Any:
    return value


def _always(config: Config) -> bool:
    return True


class Column(NamedTuple):
    """A column.

    Args:
        name: key in JSON and in statistics.
        header: title.
        width: ``%`` format of title and text.
        part: the part of a record that its value depends on.
        value: (fields, names) to a plain value. ``fields`` is the part as decoded by
            ``split.DECODERS``; of TIME it is (``struct part_packet_id`` or the packet part, ktime).
        text: formats the value for text output, before ``width``; None: not in text output.
        json: converts the value for JSON; a result of None is left out of the object.
        separator: separator from the column before.
        has_growing_width: pad the text to the longest one so far.
        center_width: width in bytes in which title and text are centered, and to which the text is
            truncated; 0: not centered.
        is_enabled: whether options enable the column; a run has it if its records also have the
            part.
    """

    name: str
    header: str
    width: str
    part: Part
    value: Callable[[Any, NameResolver], Any]
    text: Callable[[Any], str] | None = str
    json: Callable[[Any], Any] = _unchanged
    separator: str = " "
    has_growing_width: bool = False
    center_width: Callable[[Config], int] = lambda config: 0
    is_enabled: Callable[[Config], bool] = _always


def center(text: str, width: int) -> str:
    """Center ``text`` in ``width`` bytes, not characters, as pwru does; an odd space goes right."""
    missing = max(width - len(os.fsencode(text)), 0)
    return " " * (missing // 2) + text + " " * (missing - missing // 2)


def truncate(text: str) -> str:
    """Truncate ``text`` to its last 16 bytes, the first of them replaced with ``~``."""
    data = os.fsencode(text)
    if len(data) <= NAME_WIDTH:
        return text
    return "~" + os.fsdecode(data[1 - NAME_WIDTH :])


def fit_width(text: str, width: int) -> str:
    """Truncate ``text`` to its first ``width`` bytes, and center it in as many."""
    return center(os.fsdecode(os.fsencode(text)[:width]), width)


def process_path(packet: PacketFields, names: NameResolver) -> str:
    """Return the program's path; if unknown the task's name; empty without a process (pid 0)."""
    path = names.process(packet.pid, packet.comm, packet.start_stack)
    return names.escape(path or (packet.comm if packet.pid else ""))


def process(packet: PacketFields, names: NameResolver) -> str:
    """Return the text of column PROCESS: ``path:pid``, ``name:pid``, or ``<empty>:0``."""
    path = process_path(packet, names)
    return truncate(f"{path}:{packet.pid}") if path else f"<empty>:{packet.pid}"


def interface(flow: FlowFields, names: NameResolver) -> str:
    """Return the text of column IFACE: ``name:ifindex``, or the ifindex alone."""
    name = names.escape(flow.ifname)
    return truncate(f"{name}:{flow.ifindex}") if name else str(flow.ifindex)


def namespace(flow: FlowFields, names: NameResolver) -> str:
    """Return the name of the network namespace; empty if it has none."""
    return names.escape(names.namespace(flow.netns, flow.netns_cookie))


MemberValues = tuple[MemberFormatter, Sequence[int]]


def skb_members(metadata: MetadataFields, names: NameResolver) -> MemberValues | None:
    """Return the formatter and the values of --output-skb-metadata; None in an XDP event."""
    members = names.skb_members
    return (members, metadata.values) if members and metadata.kind != _XDP else None


def xdp_members(metadata: MetadataFields, names: NameResolver) -> MemberValues | None:
    """Return the formatter and the values of --output-xdp-metadata; None in other events."""
    members = names.xdp_members
    return (members, metadata.values) if members and metadata.kind == _XDP else None


def _members_text(member_values: MemberValues | None) -> str:
    return member_values[0].format_text(member_values[1]) if member_values else ""


def _members_json(member_values: MemberValues | None) -> Mapping[str, object] | None:
    return (member_values[0].json_values(member_values[1]) or None) if member_values else None


def _cb_text(words: Sequence[int]) -> str:
    return "[" + ",".join(f"0x{word:08X}" for word in words) + "]"


def _continuation_lines(lines: str) -> str:
    return f"\n{lines}" if lines else ""


def _map_text(call: MapCall) -> str:
    if not call.id:
        return ""
    return (
        f"\nmap_id: {call.id}\nmap_name: {call.name}\n"
        f"key({call.key_size}):\n{hexdump.dump(call.key)}"
        f"value({call.value_size}):\n{hexdump.dump(call.value)}"
    )


def _map_json(call: MapCall) -> dict[str, object] | None:
    hex_data = {"key": call.key.hex(), "value": call.value.hex()}
    return call._asdict() | hex_data if call.id else None


def _has_meta(config: Config) -> bool:
    return config.output_meta


def _has_tuple(option: str, flags: bool) -> Callable[[Config], bool]:
    """Return a predicate: the run has the tuple option ``option``, with or without TCP flags."""
    return lambda config: getattr(config, option) and config.output_tcp_flags == flags


def _has_nft_mode(mode: NftOutput) -> Callable[[Config], bool]:
    return lambda config: config.output_nft is mode


# fmt: off
# ruff: noqa: E501 -- a table: one row per column
_TUPLE = (partial(tuples.text, flags=False), partial(tuples.members, flags=False))
_TUPLE_FLAGS = (partial(tuples.text, flags=True), partial(tuples.members, flags=True))

COLUMNS: tuple[Column, ...] = (
    Column("time", "TIME", "%-23s", Part.TIME, lambda event, names: names.clock.local_time(event[1]), is_enabled=lambda config: config.timestamp is Timestamp.ABSOLUTE),
    Column("skb", "SKB", "%-18s", Part.PACKET, lambda packet, names: packet.skb, hex, hex),
    Column("cpu", "CPU", "%-3s", Part.PACKET, lambda packet, names: packet.cpu),
    Column("process", "PROCESS", "%-16s", Part.PACKET, process),
    Column("timestamp", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: event[1], is_enabled=lambda config: config.timestamp is Timestamp.ABSOLUTE),
    Column("time", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: event[1], is_enabled=lambda config: config.timestamp is Timestamp.CURRENT),
    Column("time", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: names.clock.since_previous(*event), is_enabled=lambda config: config.timestamp is Timestamp.RELATIVE),
    Column("netns", "NETNS", "%-10s", Part.FLOW, lambda flow, names: flow.netns, is_enabled=_has_meta),
    Column("mark", "MARK/x", "%-8s", Part.FLOW, lambda flow, names: flow.mark, "{:x}".format, is_enabled=_has_meta),
    Column("iface", "IFACE", "%16s", Part.FLOW, interface, center_width=lambda config: NAME_WIDTH, is_enabled=_has_meta),
    Column("proto", "PROTO", "%-6s", Part.FLOW, lambda flow, names: flow.protocol, "0x{:04x}".format, is_enabled=_has_meta),
    Column("mtu", "MTU", "%-5s", Part.FLOW, lambda flow, names: flow.mtu, is_enabled=_has_meta),
    Column("len", "LEN", "%-5s", Part.FLOW, lambda flow, names: flow.len, is_enabled=_has_meta),
    Column("cb", "__sk_buff->cb[]", "%-56s", Part.CB, lambda words, names: words, _cb_text),
    Column("netns_name", "NETNS NAME", "%s", Part.FLOW, namespace, str, lambda name: name or None, separator="", center_width=lambda config: config.netns_names_max_length, is_enabled=lambda config: config.output_netns_names),
    Column("tuple", "TUPLE", "%s", Part.FLOW, lambda flow, names: tuples.tuple_of(flow), *_TUPLE, has_growing_width=True, is_enabled=_has_tuple("output_tuple", flags=False)),
    Column("tuple", "TUPLE", "%s", Part.FLOW, lambda flow, names: tuples.tuple_of(flow), *_TUPLE_FLAGS, has_growing_width=True, is_enabled=_has_tuple("output_tuple", flags=True)),
    Column("func", "FUNC", "%s", Part.FUNCTION, lambda function, names: names.function(*function), is_enabled=lambda config: not config.output_caller),
    Column("func", "FUNC", "%s", Part.FUNCTION, lambda function, names: names.function(*function), has_growing_width=True, is_enabled=lambda config: config.output_caller),
    Column("type", "", "", Part.FUNCTION, event_type, None),
    Column("caller_func", "CALLER", "%s", Part.CALLER, lambda frames, names: names.caller(frames), is_enabled=lambda config: config.output_caller),
    Column("location", " LOCATION", "%s", Part.LOCATION, lambda frames, names: names.location(frames) if frames else "", lambda place: place and f" {place}", lambda place: place or None, separator="", is_enabled=lambda config: config.drops),
    *(Column("nft", " NFT-CHAIN NFT-RULE", "%s", Part.NFT, lambda part, names: render.decode(part, names.chain), partial(render.line, mode=mode), render.members, separator="", is_enabled=_has_nft_mode(mode)) for mode in (NftOutput.YES, NftOutput.TEXT, NftOutput.HOOK)),
    Column("ct", " CT", "%s", Part.CT, lambda fields, names: conntrack.decode_connection(*fields), conntrack.text, conntrack.members, separator=""),
    Column("skb_members", "", "%s", Part.METADATA, skb_members, _members_text, _members_json, separator="", is_enabled=lambda config: bool(config.output_skb_metadata)),
    Column("xdp_members", "", "%s", Part.METADATA, xdp_members, _members_text, _members_json, separator="", is_enabled=lambda config: bool(config.output_xdp_metadata)),
    Column("packet_id", "", "", Part.PACKET_ID, lambda fields, names: fields[0], None),
    Column("stack", "", "%s", Part.STACK, lambda frames, names: "".join(f"\n{name}" for name in names.stack(frames)), str, lambda lines: lines or None, separator=""),
    Column("skb_metadata", "", "%s", Part.SKB, lambda dump, names: _continuation_lines(dump), separator=""),
    Column("skb_shared_info", "", "%s", Part.SHINFO, lambda dump, names: _continuation_lines(dump), str, lambda lines: lines or None, separator=""),
    Column("tunnel_tuple", "TUNNEL", "%s", Part.TUNNEL, lambda tunnel, names: tuples.tuple_of(tunnel), *_TUPLE, is_enabled=_has_tuple("output_tunnel", flags=False)),
    Column("tunnel_tuple", "TUNNEL", "%s", Part.TUNNEL, lambda tunnel, names: tuples.tuple_of(tunnel), *_TUPLE_FLAGS, is_enabled=_has_tuple("output_tunnel", flags=True)),
    Column("bpfmap", "", "%s", Part.MAP, lambda called, names: called, _map_text, _map_json, separator=""),
)
# fmt: on


def columns(config: Config, layout: RecordLayout) -> tuple[Column, ...]:
    """Return the columns of a run, in the order of text output.

    Args:
        config: of the run.
        layout: the layout of its records.
    """
    return tuple(
        _apply_center_width(column, config)
        for column in COLUMNS
        if has_part(layout, column.part) and column.is_enabled(config)
    )


def _apply_center_width(column: Column, config: Config) -> Column:
    width = column.center_width(config)
    if not width:
        return column
    return column._replace(
        header=center(column.header, width), text=partial(fit_width, width=width)
    )
