"""The parts of records, by the options of a run."""

from __future__ import annotations

import pytest

from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.wire.record import EVENT_SIZE, struct_members
from tests.support.layouts import layout_of

ALL = (
    "--output-caller --output-skb-cb --output-tunnel --output-skb-metadata skb->mark "
    "--output-bpfmap --filter-track-bpf-helpers --output-stack --output-skb "
    "--output-skb-shared-info --set-percpu-buf 1003 --output-nft=text --output-pcap a.pcap"
)


def config_of(text: str) -> Config:
    config = parse(text.split())
    assert isinstance(config, Config)
    return config


def test_plain_run_has_no_tail() -> None:
    found = layout_of(config_of("--output-nft=false"))
    assert (found.tail_size, dict(found.parts), found.size) == (0, {}, EVENT_SIZE)
    macros = found.macros()
    sizes = {name for name in macros if name.startswith("WIRE_SIZE_")}
    assert {macros[name] for name in sizes} == {"0"}
    assert {macros[name] for name in set(macros) - sizes} == {str(EVENT_SIZE)}


def test_parts_are_aligned_and_disjoint() -> None:
    found = layout_of(config_of(ALL))
    assert list(found.parts) == [
        "caller", "cb", "tunnel", "metadata", "map", "nft", "nft_time", "bytes", "stack", "skb",
        "shinfo",
    ]  # fmt: skip
    end = 0
    for part in found.parts.values():
        assert part.offset % 8 == 0 and end <= part.offset < end + 8
        end = part.offset + part.size
    assert end <= found.tail_size < end + 8 and found.tail_size % 8 == 0
    assert found.parts["skb"].size == 1003 - 4


@pytest.mark.parametrize(
    "part", ["caller", "cb", "tunnel", "metadata", "map", "nft", "nft_time", "bytes", "stack"]
)
def test_part_holds_its_struct(part: str) -> None:
    last = list(struct_members(f"part_{part}").values())[-1]
    assert layout_of(config_of(ALL)).parts[part].size >= last.offset + last.size


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("", {"nft"}),
        ("--output-nft=hook", {"nft"}),
        ("--output-nft=text", {"nft", "nft_time"}),
        ("--output-json", {"nft", "nft_time", "packet_id"}),
        ("--filter-nft-text x", {"nft", "nft_time", "packet_id"}),
        ("--filter-nft-handle 1", {"nft", "packet_id"}),
    ],
)
def test_nft_time_needs_rule_text(flags: str, parts: set[str]) -> None:
    assert set(layout_of(config_of(flags)).parts) == parts


def test_cb_needs_meta_columns() -> None:
    assert "cb" in layout_of(config_of("--filter-trace-tc")).parts
    assert "cb" not in layout_of(config_of("--output-skb-cb --output-meta=false")).parts


def test_macros_are_offsets_in_the_event() -> None:
    defines = layout_of(config_of("--output-stack --output-caller --output-nft=false")).macros()
    assert defines["WIRE_caller"] == str(EVENT_SIZE)
    assert int(defines["WIRE_stack"]) == EVENT_SIZE + int(defines["WIRE_SIZE_caller"])
