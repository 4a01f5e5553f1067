"""Headers, sections, both byte orders, split blobs: input and errors of parse()."""

from __future__ import annotations

import pytest

from pypwru.btf import index
from pypwru.btf.declare import declare_function
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.btf.types import Kind
from pypwru.errors import BTFError
from tests.data.btf_encoder import Encoder, kernel, module


def types(data: bytes) -> list[tuple[object, ...]]:
    btf = BTF(parse(data))
    return [tuple(btf.type(type_id)) for type_id in btf.ids()]


def test_handwritten_blob() -> None:
    data = bytes.fromhex(
        "9feb 01 00 18000000  00000000 10000000  10000000 05000000"  # 16 of types, 5 of strings
        "01000000 00000001 04000000 20000001"  # "int", INT, 4 bytes, signed 32 bits
        "00 696e7400"
    )
    btf = BTF(parse(data))
    assert btf.type(1) == (1, Kind.INT, "int", 0, False, 4, 0)
    assert btf.integer(1) == (1, 0, 32)
    assert btf.find("int") == [1]


def test_byte_orders_have_equal_types() -> None:
    assert types(kernel("<").bytes()) == types(kernel(">").bytes())
    assert {kind for _, kind, *_ in types(kernel().bytes())} == set(Kind) - {Kind.VOID}


def test_longer_header_is_skipped() -> None:
    assert types(kernel().bytes(padding=4)) == types(kernel().bytes())
    assert types(kernel().bytes(layout=b"", padding=40)) == types(kernel().bytes())


def test_unknown_kind_is_named() -> None:
    encoder = kernel()
    encoder.add(23, "new", 0)
    with pytest.raises(BTFError, match=r"BTF kind 23 .* update"):
        parse(encoder.bytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_described_unknown_kind_is_skipped(order: str) -> None:
    """``struct btf_layout`` of Linux 7.1: {info_sz, elem_sz, flags} by kind."""
    encoder = kernel(order)
    new = encoder.add(20, "new", 0, 1, 2, 3, 4, 5, vlen=2)
    after = encoder.integer("after", 2)
    btf = BTF(parse(encoder.bytes(layout=bytes(20 * 4) + bytes([4, 8, 0, 0]))))
    assert btf.find("after") == [after]
    assert btf.size(after) == 2
    with pytest.raises(BTFError, match=rf"BTF kind 20 \(of type id {new}\)"):
        btf.type(new)


def test_split_blob_continues_its_base() -> None:
    base = kernel()
    whole = parse(base.bytes())
    btf = BTF(parse(module(base).bytes(), whole))
    assert btf.ids().start == base.next_id
    assert [name for name, _ in btf.functions()] == ["module_const", "nothing"]
    assert btf.find("nothing")[0] < base.next_id <= btf.find("nothing")[1]
    assert (
        declare_function(btf, "module_const")
        == "int module_const(volatile struct sk_buff *skb, int n)"
    )
    assert declare_function(btf, "nothing") == "int nothing(void)", "its own, not the kernel's"
    assert btf.digest != BTF(whole).digest


def test_split_blob_without_base_is_refused() -> None:
    with pytest.raises(BTFError, match="split BTF"):
        parse(module(kernel()).bytes())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not BTF: it begins with nothing"),
        (b"\x7fELF\2\1", "not BTF: it begins with 7f 45 4c 46"),
        (kernel().bytes()[:20], "20 bytes, shorter than its header"),
        (kernel().bytes()[:200], "a section ends at"),
        (b"\x9f\xeb\x02" + kernel().bytes()[3:], "version 2"),
        (b"\x9f\xeb\x01\0\xff\xff" + kernel().bytes()[6:], "claims 65535 bytes"),
        (b"\x9f\xeb\x01\0\x04\0" + kernel().bytes()[6:], "claims 4 bytes"),
        (kernel().bytes()[:-1] + b"x", "last string does not end"),
        (kernel().bytes(layout=b"\1\0\0\0"), "not whole words"),
    ],
)
def test_malformed_headers_are_named(data: bytes, words: str) -> None:
    with pytest.raises(BTFError, match=words):
        parse(data)


@pytest.mark.parametrize("cut", [4, 8, 12])
def test_truncated_record_is_named(cut: int) -> None:
    encoder = Encoder()
    encoder.struct("s", 4, ("a", 0, 0))
    encoder.types = encoder.types[:-cut]
    with pytest.raises(BTFError, match="type record 1 is cut off"):
        parse(encoder.bytes())


def test_bad_string_offset_is_named() -> None:
    encoder = Encoder()
    encoder.reuse(Kind.FLOAT, 4711, 8)
    with pytest.raises(BTFError, match="string offset 4711"):
        parse(encoder.bytes())


def test_index_packs_and_unpacks() -> None:
    original = parse(kernel().bytes()).index
    assert index.unpack(index.pack(original)) == original
