"""Any query of malformed BTF raises BTFError and nothing else, in bounded time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from pypwru.btf import elf
from pypwru.btf.declare import declare_function
from pypwru.btf.enums import find_enum, find_values
from pypwru.btf.members import find_member
from pypwru.btf.parse import Blob, parse
from pypwru.btf.query import BTF
from pypwru.errors import BTFError
from tests.data.btf_encoder import kernel, module

KERNEL = kernel()
WHOLE = KERNEL.bytes()
SPLIT = module(KERNEL).bytes()
BASE = parse(WHOLE)


def queries_by_id(btf: BTF) -> list[Callable[[int], object]]:
    return [
        btf.type,
        btf.resolve,
        btf.pointee,
        btf.size,
        btf.array,
        btf.integer,
        btf.params,
        btf.members,
        btf.enumerators,
    ]


def query_all(data: bytes, base: Blob | None = None) -> None:
    try:
        btf = BTF(parse(data, base))
    except BTFError:
        return
    for type_id in btf.ids():
        for query in queries_by_id(btf):
            with contextlib.suppress(BTFError):
                query(type_id)
        with contextlib.suppress(BTFError):
            found = btf.type(type_id)
            find_enum(btf, found.name)
        with contextlib.suppress(BTFError):
            declare_function(btf, found.name)
        with contextlib.suppress(BTFError):
            find_member(btf, found.name, "dev.x")
    for query_blob in (
        lambda: list(btf.functions()),
        lambda: btf.functions_taking("sk_buff"),
        lambda: list(find_values(btf, "TWO")),
        btf.tracepoints,
    ):
        with contextlib.suppress(BTFError):
            query_blob()


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, len(SPLIT) - 1))
def test_truncated(end: int, split_end: int) -> None:
    query_all(WHOLE[:end])
    query_all(SPLIT[:split_end], BASE)


@given(st.lists(st.integers(0, len(WHOLE) * 8 - 1), min_size=1, max_size=6))
@settings(max_examples=400)
def test_bits_flipped(bits: list[int]) -> None:
    data = bytearray(WHOLE)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    query_all(bytes(data))


@given(st.lists(st.integers(0, len(SPLIT) * 8 - 1), min_size=1, max_size=4))
def test_bits_of_split_blob_flipped(bits: list[int]) -> None:
    data = bytearray(SPLIT)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    query_all(bytes(data), BASE)


@given(st.data())
@settings(max_examples=400)
def test_small_ids_anywhere(data: st.DataObject) -> None:
    """Small numbers are valid ids: with them types refer to themselves."""
    corrupted = bytearray(WHOLE)
    words = st.integers(6, 6 + len(KERNEL.types) // 4 - 1)
    for word in data.draw(st.lists(words, min_size=1, max_size=8)):
        value = data.draw(st.integers(0, KERNEL.next_id + 1))
        corrupted[word * 4 : word * 4 + 4] = value.to_bytes(4, "little")
    query_all(bytes(corrupted))


@given(st.binary(max_size=300))
def test_random_types_after_valid_header(types: bytes) -> None:
    encoder = kernel()
    encoder.types = types
    query_all(encoder.bytes())


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    query_all(data)
    query_all(b"\x9f\xeb\x01\0" + data)
    for head in (b"", b"\x7fELF\2\1", b"\x7fELF\1\2"):
        with contextlib.suppress(BTFError):
            elf.find_section(head + data, ".BTF")
