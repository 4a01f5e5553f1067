"""The layout header, built from BTF that the tests encode."""

from __future__ import annotations

import re

import pytest

from pypwru.bpf_sources import FIELDS, sources
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.errors import BTFError
from pypwru.program.layout import build_layout
from tests.data.btf_encoder import Encoder
from tests.support.c_comments import without_comments

BLOCK = "IN_SKB_BLOCK(head)\nIN_SKB_BLOCK(tail)\n"


def kernel(with_present: bool) -> BTF:
    """Return sk_buff { head; tail; len; net { inum }; [bit 3 of the byte at 36: vlan_present] }."""
    e = Encoder()
    u32 = e.integer("unsigned int", 4)
    u64 = e.integer("long unsigned int", 8)
    byte = e.integer("unsigned char", 1)
    common = e.struct("ns_common", 8, ("stashed", u32, 0), ("inum", u32, 32))
    e.struct("net", 16, ("passive", u64, 0), ("ns", common, 64))
    fields = [("_skb_refdst", u64, 0, 0), ("tail", u32, 12 * 8, 0), ("head", u64, 16 * 8, 0)]
    fields += [("len", u32, 32 * 8, 0)]
    if with_present:
        fields.append(("vlan_present", byte, 36 * 8 + 3, 1))
    e.bit_struct("sk_buff", 40, *fields)
    return BTF(parse(e.bytes()))


def macros(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)$", text, re.M)}


def test_offsets_and_paths() -> None:
    layout = build_layout(
        f"REQUIRED(sk_buff, len, u32)\nREQUIRED(net, ns__inum, u32)\n{BLOCK}", kernel(True)
    )
    found = macros(layout)
    assert found["FIELD_sk_buff_len"] == 32
    assert found["FIELD_net_ns__inum"] == 12


def test_leading_underscore_is_no_path() -> None:
    found = macros(
        build_layout(f"REQUIRED(sk_buff, _skb_refdst, struct dst_entry *)\n{BLOCK}", kernel(True))
    )
    assert found["FIELD_sk_buff__skb_refdst"] == 0


def test_present_optional_field_has_its_bit() -> None:
    found = macros(build_layout(f"OPTIONAL(sk_buff, vlan_present, u8)\n{BLOCK}", kernel(True)))
    assert (found["FIELD_sk_buff_vlan_present"], found["BIT_sk_buff_vlan_present"]) == (36, 3)


def test_missing_optional_field_is_left_out() -> None:
    layout = build_layout(f"OPTIONAL(sk_buff, vlan_present, u8)\n{BLOCK}", kernel(False))
    assert "vlan_present" not in layout


def test_missing_field_is_named() -> None:
    with pytest.raises(BTFError, match="vlan_present") as caught:
        build_layout(f"REQUIRED(sk_buff, vlan_present, u8)\n{BLOCK}", kernel(False))
    assert "sk_buff" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_struct_is_named() -> None:
    with pytest.raises(BTFError, match="net_device"):
        build_layout(f"REQUIRED(net_device, mtu, u32)\n{BLOCK}", kernel(True))


def test_block_spans_members_and_is_aligned() -> None:
    """tail is at 12..16, head at 16..24."""
    found = macros(build_layout(BLOCK, kernel(True)))
    assert (found["BLOCK_START"], found["BLOCK_SIZE"]) == (8, 16)


def test_size_of_present_structs() -> None:
    layout = build_layout(f"STRUCT_SIZE(sk_buff)\nSTRUCT_SIZE(nosuch)\n{BLOCK}", kernel(True))
    assert macros(layout)["SIZE_OF_sk_buff"] == 40
    assert "nosuch" not in layout


def test_definitions_and_comments_are_no_rows() -> None:
    text = (
        f"#define REQUIRED(type, member, as) x\n/*\n * REQUIRED(struct, member, type)\n */\n{BLOCK}"
    )
    assert build_layout(text, kernel(True)) == build_layout(BLOCK, kernel(True))


def test_code_uses_listed_fields() -> None:
    """All of them, and no others: an #ifdef of one that isn't listed would never be true."""
    code = "".join(map(without_comments, sources().values()))
    listed = {
        "_".join(row)
        for row in re.findall(r"^\s*(?:REQUIRED|OPTIONAL)\((\w+), (\w+), ", code, re.MULTILINE)
    }
    used = {"_".join(row) for row in re.findall(r"\bFIELD\((\w+), (\w+)\)", code)}
    reads = re.findall(r"\b(?:KREAD|MEMBER)\([^\n]*?, (\w+), (\w+)\)", code)
    used |= {"_".join(row) for row in reads}
    used |= {f"sk_buff_{name}" for name in re.findall(r"\bSKB_BLOCK\(\w+, (\w+)\)", code)}
    used -= {"type_member", "sk_buff_member"}  # of the macros' definitions
    tested = set(re.findall(r"#\s*(?:el)?if.*\bFIELD_(\w+)", code))
    assert used == listed
    assert tested and tested <= listed


def test_list_of_sources_needs_a_kernel() -> None:
    """With a BTF that lacks them, the first is an error; tests/native finds each of them."""
    with pytest.raises(BTFError):
        build_layout(sources()[FIELDS], kernel(True))


def test_layout_is_deterministic() -> None:
    text = f"REQUIRED(sk_buff, len, u32)\nREQUIRED(net, ns__inum, u32)\n{BLOCK}"
    assert build_layout(text, kernel(True)) == build_layout(text, kernel(True))
    lines = build_layout(text, kernel(True)).splitlines()
    assert len(set(lines)) == len(lines)
