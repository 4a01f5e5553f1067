"""Queries of the BTF of a small kernel that has every kind."""

from __future__ import annotations

import pytest

from pypwru.btf.declare import declare_function
from pypwru.btf.enums import find_enum, find_values
from pypwru.btf.members import find_member, has_member
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.btf.types import Field, Kind, Param
from pypwru.errors import BTFError
from tests.data.btf_encoder import Encoder, kernel, module


@pytest.fixture(scope="module", params=["<", ">"])
def btf(request: pytest.FixtureRequest) -> BTF:
    return BTF(parse(kernel(request.param).bytes()))


def encode(encoder: Encoder) -> BTF:
    return BTF(parse(encoder.bytes()))


def test_functions_taking(btf: BTF) -> None:
    found = {name: places for name, _, places in btf.functions_taking("sk_buff")}
    assert found == {"by_pointer": (1,), "by_const": (2,), "by_alias": (1, 3)}
    found = {name: places for name, _, places in btf.functions_taking("sk_buff", max_args=6)}
    assert found["sixth"] == (6,)
    assert btf.functions_taking("sk_buff", max_args=0) == []
    assert btf.functions_taking("net_device") == []
    (proto,) = [proto for name, proto, _ in btf.functions_taking("sk_buff") if name == "by_const"]
    assert [param.name for param in btf.params(proto)] == ["count", "skb"]


def test_module_functions_taking_kernel_struct() -> None:
    base = kernel()
    split = BTF(parse(module(base).bytes(), parse(base.bytes())))
    assert [(name, places) for name, _, places in split.functions_taking("sk_buff")] == [
        ("module_const", (1,))
    ]
    assert [name for name, _ in split.tracepoints()] == ["module"]


@pytest.mark.parametrize(
    "signature",
    [
        "int by_pointer(struct sk_buff *skb, void *dev)",
        "void by_const(int count, const struct sk_buff *const skb)",
        "void by_alias(skb_ptr a, int b, skb_t __user *c)",
        "void double_pointer(struct sk_buff **skbs)",
        "int variadic(const char *fmt, ...)",
        "void nothing(void)",
        "int (*callbacks(int (*call)(void *, struct sk_buff *), int (*v)[3]))"
        "(void *, struct sk_buff *)",
    ],
)
def test_prototypes(btf: BTF, signature: str) -> None:
    name = next(name for name, _ in btf.functions() if f"{name}(" in signature)
    assert declare_function(btf, name) == signature


def test_variadic_function_ends_in_void_param(btf: BTF) -> None:
    proto = dict(btf.functions())["variadic"]
    assert btf.params(proto)[-1] == Param("", 0)


def test_tracepoints(btf: BTF) -> None:
    ((name, proto),) = btf.tracepoints()
    assert name == "kfree_skb"
    assert [param.name for param in btf.params(proto)] == ["__data", "skb"]


@pytest.mark.parametrize(
    ("path", "offset", "bit_offset", "bit_size", "size"),
    [
        ("next", 0, 0, 0, 8),
        ("dev", 8, 0, 0, 8),
        ("low", 8, 0, 3, 1),
        ("high", 9, 5, 1, 1),
        ("plain", 12, 0, 0, 4),
        ("cb", 16, 0, 0, 24),
        ("len", 40, 0, 0, 4),
    ],
)
def test_members(
    btf: BTF, path: str, offset: int, bit_offset: int, bit_size: int, size: int
) -> None:
    assert find_member(btf, "sk_buff", path)[:4] == (offset, bit_offset, bit_size, size)
    assert find_member(btf, "skb_t", path) == find_member(btf, "sk_buff", path), (
        "a typedef of the struct"
    )


def test_members_in_order(btf: BTF) -> None:
    (skb,) = btf.find("sk_buff", Kind.STRUCT)
    assert [member.name for member in btf.members(skb)] == ["next", "", "cb", "len"]


@pytest.mark.parametrize(
    ("struct", "path", "words"),
    [
        ("sk_buff", "gone", "no member gone in struct sk_buff"),
        ("sk_buff", "next.len", "no member next.len in struct sk_buff"),
        ("sk_buff", "", "no member  in struct sk_buff"),
        ("nowhere", "len", "no struct nowhere"),
        ("u8", "len", "no member len in struct u8"),
    ],
)
def test_missing_member_is_named(btf: BTF, struct: str, path: str, words: str) -> None:
    with pytest.raises(BTFError, match=words):
        find_member(btf, struct, path)
    assert not has_member(btf, struct, path)


def test_member_path_tries_all_structs() -> None:
    encoder = Encoder()
    integer = encoder.integer("int", 4)
    encoder.struct("twice", 4, ("a", integer, 0))
    deep = encoder.struct("deep", 8, ("x", integer, 0), ("y", integer, 32))
    array = encoder.array(deep, integer, 2)
    encoder.struct("twice", 64, ("b", encoder.add(Kind.CONST, "", deep), 64), ("all", array, 128))
    btf = encode(encoder)
    assert find_member(btf, "twice", "a").offset == 0
    assert find_member(btf, "twice", "b.y") == Field(12, 0, 0, 4, integer)
    assert find_member(btf, "twice", "all").size == 16
    assert not has_member(btf, "twice", "all.x"), "an array is not a struct"


def test_bit_fields_without_kind_flag() -> None:
    """The INT itself is narrow: BTF_INT_OFFSET and BTF_INT_BITS (Linux < 5.0)."""
    encoder = Encoder()
    narrow = encoder.integer("int", 4, bits=3, start=2)
    encoder.struct("old", 4, ("flags", narrow, 8))
    assert find_member(encode(encoder), "old", "flags") == Field(1, 2, 3, 4, narrow)


def test_enums(btf: BTF) -> None:
    assert find_enum(btf, "small") == {"MINUS": -1, "ONE": 1}
    assert find_enum(btf, "big") == {"HUGE": 1 << 63, "TWO": 2}
    assert find_enum(btf, "below") == {"LOW": -(1 << 40)}
    assert list(find_values(btf, "TWO")) == [2]
    assert list(find_values(btf, "THREE")) == []
    with pytest.raises(BTFError, match="no enum medium"):
        find_enum(btf, "medium")


def test_same_named_enums_merge_first_wins() -> None:
    encoder = Encoder()
    encoder.enum("reason", {"A": 1, "B": 2})
    encoder.enum("reason", {"B": 3, "C": 4})
    assert find_enum(encode(encoder), "reason") == {"A": 1, "B": 2, "C": 4}
    assert list(find_values(encode(encoder), "B")) == [2, 3]


def test_pointees_and_sizes(btf: BTF) -> None:
    (skb,) = btf.find("sk_buff", Kind.STRUCT)
    (alias,) = btf.find("skb_ptr")
    assert btf.pointee(alias) == skb
    assert btf.pointee(skb) is None
    assert btf.size(alias) == btf.pointer_size == 8
    assert btf.size(btf.find("counter")[0]) == 4
    assert btf.size(find_member(btf, "sk_buff", "cb").type) == 24
    for sizeless in ("opaque", "nothing"):
        with pytest.raises(BTFError, match="has no size"):
            btf.size(btf.find(sizeless)[0])


def test_32_bit_kernel_has_4_byte_pointers() -> None:
    encoder = Encoder()
    encoder.integer("long unsigned int", 4)
    pointer = encoder.ptr(0)
    assert encode(encoder).size(pointer) == 4


def test_find_matches_whole_names(btf: BTF) -> None:
    assert btf.find("buff") == []
    assert btf.find("sk_buff", Kind.FUNC) == []
    assert btf.find("") == []
    assert btf.find("sk_buff\0next") == []


@pytest.mark.parametrize("type_id", [-1, 10_000])
def test_missing_type_id_is_named(btf: BTF, type_id: int) -> None:
    with pytest.raises(BTFError, match=f"type id {type_id} does not exist"):
        btf.type(type_id)


def test_query_of_wrong_kind_is_an_error(btf: BTF) -> None:
    with pytest.raises(BTFError, match="type id 1 is a INT, not a FUNC_PROTO"):
        btf.params(1)
    with pytest.raises(BTFError, match="type id 0 is a VOID, not a STRUCT or UNION"):
        btf.members(0)


def test_recursive_types_are_errors() -> None:
    encoder = Encoder()
    loop = encoder.add(Kind.CONST, "", 1)
    array = encoder.array(2, 1, 2)
    nest = encoder.struct("nest", 4, ("", 3, 0), ("", 3, 0))
    proto = encoder.proto(4, ("f", 4), ("g", 4))
    encoder.func("endless", proto)
    btf = encode(encoder)
    assert (loop, array, nest, proto) == (1, 2, 3, 4)
    with pytest.raises(BTFError, match="does not resolve"):
        btf.resolve(loop)
    with pytest.raises(BTFError, match="has no end"):
        btf.size(array)
    with pytest.raises(BTFError, match="members of type id 3 do not end"):
        find_member(btf, "nest", "x")
    with pytest.raises(BTFError, match="declaration of type id 4 does not end"):
        declare_function(btf, "endless")
