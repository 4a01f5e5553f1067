"""bpf/event.h as the C compiler lays it out, and its counterparts in Python."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from pypwru.bpf_sources import BPF_DIR
from pypwru.nft import chain_names
from pypwru.nft import record as nft_record
from pypwru.pcap import packet_data
from pypwru.ring.counters import Counters
from pypwru.wire import fields as wire_fields
from pypwru.wire import record
from tests.support.need import need

TAIL = {
    "part_caller": wire_fields.CALLER,
    "part_cb": wire_fields.CB,
    "part_tunnel": wire_fields.TUNNEL,
    "part_metadata": wire_fields.METADATA,
    "part_map": wire_fields.MAP,
    "part_nft": nft_record.NFT,
    "part_nft_time": nft_record.NFT_TIME,
    "part_bytes": packet_data.PART_BYTES,
    "part_packet_id": wire_fields.PACKET_ID,
    "chunk": packet_data.CHUNK_HEADER,
    "nft_key": chain_names.KEY_STRUCT,
    "nft_names": chain_names.NAMES_STRUCT,
    "part_stack": wire_fields.STACK,
}
STRUCTS = ("event", "counters", *TAIL)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[int]]]:
    """Struct -> member -> [offset, size], and "" -> [sizeof, 0], printed by a C program."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    need(compiler, "gcc")
    assert compiler
    folder = tmp_path_factory.mktemp("layout")
    lines = []
    for name in STRUCTS:
        lines += [f'SIZE("{name}", struct {name})']
        lines += [f"FIELD({name}, {member})" for member in record.struct_members(name)]
    (folder / "layout.c").write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        '#undef NULL\n#include "event.h"\n'
        '#define SIZE(n, t) printf("[\\"%s\\", \\"\\", %zu, 0]\\n", n, sizeof(t));\n'
        '#define FIELD(s, m) printf("[\\"%s\\", \\"%s\\", %zu, %zu]\\n", #s, #m, '
        "offsetof(struct s, m), sizeof(((struct s *)0)->m));\n"
        "int main(void) {" + "\n".join(lines) + "return 0; }\n"
    )
    program = folder / "layout"
    subprocess.run(
        [compiler, "-Wall", "-Werror", f"-I{BPF_DIR}", "-o", program, folder / "layout.c"],
        check=True,
        capture_output=True,
    )
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, list[int]]] = {name: {} for name in STRUCTS}
    for line in output.splitlines():
        name, member, offset, size = json.loads(line)
        found[name][member] = [offset, size]
    return found


@pytest.mark.parametrize("name", STRUCTS)
def test_offsets_equal_the_compiler(compiled: dict[str, dict[str, list[int]]], name: str) -> None:
    ours = {member: [*layout] for member, layout in record.struct_members(name).items()}
    theirs = {member: layout for member, layout in compiled[name].items() if member}
    assert ours == theirs


def test_all_members_are_parsed(compiled: dict[str, dict[str, list[int]]]) -> None:
    """The sizes of the parsed members add up to the compiler's: none is missed."""
    assert compiled["event"][""][0] == record.EVENT_SIZE
    assert compiled["counters"][""][0] == record.COUNTERS_SIZE
    layouts = record.struct_members("event").values()
    assert sum(layout.size for layout in layouts) == record.EVENT_SIZE, (
        "padding would be stale bytes"
    )


def test_parts_tile_the_record() -> None:
    sizes = [wire_fields.PACKET.size, wire_fields.FUNCTION.size, 8, wire_fields.FLOW.size]
    assert sum(sizes) == record.EVENT_SIZE
    starts = [sum(sizes[:index]) for index in range(4)]
    assert [
        record.EVENT_MEMBERS[name].offset for name in ("skb", "address", "ktime", "netns")
    ] == starts


PARTS = {"skb": wire_fields.PACKET, "address": wire_fields.FUNCTION, "netns": wire_fields.FLOW}


@pytest.mark.parametrize("first", PARTS)
def test_formats_of_parts(first: str) -> None:
    """Each member, filled with its own byte, is unpacked at its own position."""
    part = PARTS[first]
    start = record.EVENT_MEMBERS[first].offset
    inside = {
        name: layout
        for name, layout in record.EVENT_MEMBERS.items()
        if start <= layout.offset < start + part.size and name != "pad"
    }
    content = bytearray(part.size)
    for number, layout in enumerate(inside.values(), start=1):
        content[layout.offset - start : layout.offset - start + layout.size] = (
            bytes([number]) * layout.size
        )
    values = part.unpack(content)
    expected = [
        bytes([number]) * layout.size for number, layout in enumerate(inside.values(), start=1)
    ]
    unpacked = [
        value if isinstance(value, bytes) else value.to_bytes(len(octets), "little")
        for value, octets in zip(values, expected, strict=True)
    ]
    assert unpacked == expected


@pytest.mark.parametrize("part", TAIL)
def test_formats_of_the_tail(compiled: dict[str, dict[str, list[int]]], part: str) -> None:
    """Formats cover the compiler's members, and skip padding."""
    form = TAIL[part]
    assert form.size == compiled[part][""][0]
    content = bytearray((at * 7) % 251 + 1 for at in range(form.size))
    repacked = form.pack(*form.unpack(content))
    pad = record.struct_members(part).get("pad", record.MemberLayout(0, 0))
    content[pad.offset : pad.offset + pad.size] = bytes(pad.size)
    assert repacked == content


def test_fields_of_the_tail_are_members() -> None:
    named: dict[str, type[NamedTuple]] = {
        "part_tunnel": wire_fields.TunnelFields,
        "part_metadata": wire_fields.MetadataFields,
        "part_map": wire_fields.MapCall,
    }
    for part, fields in named.items():
        members = [name for name in record.struct_members(part) if name != "pad"]
        assert [name for name in fields._fields if name != "kind"] == members


def test_fields_are_members() -> None:
    function = [
        name for name in wire_fields.FunctionFields._fields if name != "kind"
    ]  # the packet's
    names = [
        *wire_fields.PacketFields._fields,
        *function,
        "ktime",
        *wire_fields.FlowFields._fields,
        "pad",
    ]
    assert names == list(record.EVENT_MEMBERS)


def test_counters_equal_the_header(compiled: dict[str, dict[str, list[int]]]) -> None:
    assert (
        list(Counters._fields)
        == list(record.struct_members("counters"))
        == list(record.COUNTER_NAMES)
    )
    assert struct.calcsize(record.COUNTERS_STRUCT.format) == compiled["counters"][""][0]


def test_reader_states_differ() -> None:
    states = (record.READER_AWAKE, record.READER_DOZING, record.READER_STOPPED)
    assert len(set(states)) == 3
    assert record.READER_AWAKE == 0, "what a new map holds"


@pytest.mark.parametrize("tail", [0, 8, 400])
def test_decode(tail: int) -> None:
    """Two records with their headers; the slices are those of the C."""
    size = record.EVENT_SIZE + tail
    events = [bytes((index * 7 + start) % 256 for index in range(size)) for start in (0, 1)]
    header = struct.pack("=II", size, 0)
    decoded = record.make_decoder(tail)(b"".join(header + event for event in events))
    assert len(decoded) == 2
    for event, slices in zip(events, decoded, strict=True):
        rebuilt = record.Record(*slices)
        joined = (
            rebuilt.packet
            + rebuilt.func
            + struct.pack("=Q", rebuilt.ktime)
            + rebuilt.flow
            + rebuilt.tail
        )
        assert joined == event
        assert rebuilt.packet == event[: record.EVENT_MEMBERS["address"].offset]


def test_decode_nothing() -> None:
    assert record.make_decoder(0)(b"") == []


def test_missing_struct_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no struct nosuch"):
        record.struct_members("nosuch")


def test_header_exists() -> None:
    assert (Path(BPF_DIR) / "event.h").is_file()
