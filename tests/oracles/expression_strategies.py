"""hypothesis strategies: structs in C, expressions over them for pypwru and gcc, their contents."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

from tests.oracles.expressions import Case, Layout

U32_HIGH = 0xFFFFFFFF


class Leaf(NamedTuple):
    """A number in a struct: the end of its member path, and C's value of the path."""

    path: str
    c: Callable[[str], str]


def _same(path: str) -> str:
    return path


def _cast(name: str) -> Callable[[str], str]:
    return lambda path: f"(({name})({path}))"


def _swapped(bits: int) -> Callable[[str], str]:
    return lambda path: f"((u{bits})__builtin_bswap{bits}({path}))"


_TYPES: dict[str, Callable[[str], str]] = {
    "u8": _same, "u16": _same, "u32": _same, "u64": _same,
    "s8": _same, "s16": _same, "s32": _same, "s64": _same,
    "__be16": _swapped(16), "__be32": _swapped(32), "__be64": _swapped(64),
    "const volatile u32": _cast("u32"), "enum big": _same,
}  # fmt: skip
_CARRIERS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "s32": 32, "s64": 64, "s8": 8}
ENUMERATORS = {"ONE": 1, "FOUR": 4, "TOP": 0x7FFFFFFF}
# None below zero, none above an int: gcc before 13 leaves that out of BTF.
_ENUMS = "enum big { ONE = 1, FOUR = 4, TOP = 0x7fffffff };\n"


@st.composite
def _bit_field(draw: st.DrawFn, name: str) -> tuple[str, list[Leaf]]:
    carrier = draw(st.sampled_from(sorted(_CARRIERS)))
    width = draw(st.integers(1, _CARRIERS[carrier]))
    if carrier.startswith("s"):
        wide = "long"
    else:
        wide = "u8" if width <= 8 else "u16" if width <= 16 else "long" if width < 64 else "u64"
        wide = "u32" if width == 32 else wide
    return f"{carrier} {name}:{width};", [Leaf(name, _cast(wide))]


@st.composite
def _plain(draw: st.DrawFn, name: str) -> tuple[str, list[Leaf]]:
    kind = draw(st.sampled_from(sorted(_TYPES)))
    return f"{kind} {name};", [Leaf(name, _TYPES[kind])]


@st.composite
def _array(draw: st.DrawFn, name: str) -> tuple[str, list[Leaf]]:
    kind = draw(st.sampled_from(sorted(_TYPES)))
    length = draw(st.integers(1, 5))
    places = draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=2, unique=True))
    return f"{kind} {name}[{length}];", [Leaf(f"{name}[{n}]", _TYPES[kind]) for n in places]


@st.composite
def _nested(draw: st.DrawFn, name: str, depth: int) -> tuple[str, list[Leaf]]:
    """A struct or union, anonymous or not, or an array of them."""
    word = draw(st.sampled_from(("struct", "union", "struct __attribute__((packed))")))
    inner = draw(_members(f"{name}_", depth - 1))
    body = " ".join(text for text, _ in inner)
    leaves = [leaf for _, some in inner for leaf in some]
    shape = draw(st.sampled_from(("", name, f"{name}[3]")))
    if not shape:
        return f"{word} {{ {body} }};", leaves
    before = f"{name}[{draw(st.integers(0, 2))}]" if "[" in shape else name
    return f"{word} {{ {body} }} {shape};", [
        Leaf(f"{before}.{leaf.path}", leaf.c) for leaf in leaves
    ]


@st.composite
def _members(draw: st.DrawFn, prefix: str, depth: int) -> list[tuple[str, list[Leaf]]]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        name = f"{prefix}{number}"
        kinds = [_plain(name), _bit_field(name), _bit_field(name), _array(name)]
        if depth:
            kinds.append(_nested(name, depth))
        found.append(draw(st.one_of(kinds)))
    return found


class StructWorld(NamedTuple):
    layout: Layout
    leaves: list[Leaf]
    others: list[Leaf]
    """Of struct sk_buff, and of struct other."""


@st.composite
def struct_worlds(draw: st.DrawFn) -> StructWorld:
    """Draw layouts, with the numbers that are in them."""
    other, own = draw(_members("o", 2)), [draw(_members(p, 2)) for p in ("a", "b", "c")]
    flags = [Leaf("flag", _cast("u8"))]
    declarations = (
        f"{_ENUMS}struct sk_buff;\n"
        f"struct other {{ {' '.join(t for t, _ in other)} struct other *next; _Bool flag; "
        "struct sk_buff *back; };\n"
        f"struct sk_buff {{ {' '.join(t for t, _ in own[0])} struct other *to; char text[6]; "
        f"{' '.join(t for t, _ in own[1])} _Bool flag; struct other *also; const char *label; "
        f"{' '.join(t for t, _ in own[2])} }};\n"
    )
    return StructWorld(
        Layout(declarations),
        [leaf for part in own for _, some in part for leaf in some] + flags,
        [leaf for _, some in other for leaf in some] + flags,
    )


_LINKS = st.sampled_from(
    (
        ("to", False), ("to", False), ("also", False), ("to->next", False), ("also.next", False),
        ("to->back", True), ("to->back->also", False), ("also->next->next->back", True),
    )
)  # fmt: skip


@st.composite
def reads(draw: st.DrawFn, world: StructWorld) -> Case:
    """Draw a member, some behind pointers."""
    text, c, is_root = "skb", "skb", True
    if draw(st.integers(0, 2)) == 0:
        link, is_root = draw(_LINKS)
        for step in link.replace(".", "->").split("->"):
            c = f"D({c})->{step}"
        text = f"skb->{link}"
        c = f"D({c})"
    leaf = draw(st.sampled_from(world.leaves if is_root else world.others))
    path = leaf.path
    if draw(st.booleans()):
        path = path.replace(".", "->")
    arrow = draw(st.sampled_from(("->", "->", ".", " -> ")))
    return Case(f"{text}{arrow}{path}", leaf.c(f"{c}->{leaf.path}"))


_DECIMAL, _OCTAL = "{}", "0o{:o}"
_BASES = st.sampled_from((_DECIMAL, "0{:o}", "{:#x}", _OCTAL, "{:#b}", "{:#X}"))
_NUMBERS = st.one_of(
    st.integers(0, 9),
    st.integers(0, 300),
    st.integers(0, U32_HIGH),
    st.integers(0, 2**64 - 1),
    st.sampled_from((0x7FFFFFFF, 0x80000000, 0x80000001, U32_HIGH, 2**63 - 1, 2**63, 2**64 - 1)),
)


@st.composite
def constants(draw: st.DrawFn) -> Case:
    if draw(st.integers(0, 5)) == 0:
        name = draw(st.sampled_from(sorted(ENUMERATORS)))
        return Case(name, f"({ENUMERATORS[name]}L)")
    value, base = draw(_NUMBERS), draw(_BASES)
    suffix = draw(st.sampled_from(("", "", "U", "L", "ul")))
    is_int = "U" if value <= U32_HIGH and suffix == "U" else ""
    if not suffix and value.bit_length() == 32 and base != _DECIMAL:
        is_int = "U"  # as C has it, too large for an int
    unsigned = value >= 2**63 or "u" in suffix.lower()
    digits = base.format(value)
    in_c = f"0{value:o}" if base == _OCTAL else digits
    return Case(digits + suffix, f"({in_c}{is_int or ('UL' if unsigned else 'L')})")


_PLAIN = ("+", "-", "*", "&", "|", "^")
_COMPARE = ("==", "!=", "<", "<=", ">", ">=")


@st.composite
def _binary(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    sign = draw(st.sampled_from(_PLAIN))
    left, right = draw(inner), draw(inner)
    return Case(f"({left.text} {sign} {right.text})", f"(W({left.c}) {sign} W({right.c}))")


@st.composite
def _division(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    sign, macro = draw(st.sampled_from((("/", "DIV"), ("%", "MOD"))))
    left, right = draw(inner), draw(inner)
    return Case(f"({left.text}{sign}{right.text})", f"{macro}(W({left.c}), W({right.c}))")


@st.composite
def _shift(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    sign = draw(st.sampled_from(("<<", ">>")))
    left = draw(inner)
    if draw(st.booleans()):
        count = draw(st.integers(0, 63))
        return Case(f"({left.text} {sign} {count})", f"(W({left.c}) {sign} {count})")
    right = draw(inner)
    return Case(f"({left.text} {sign} {right.text})", f"(W({left.c}) {sign} (W({right.c}) & 63))")


def _complement(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    """Draw ``~`` of a member: C keeps the type of an u32 through more than ``W`` does."""
    return inner.map(lambda one: Case(f"~{one.text}", f"NOT({one.c})"))


def numbers(world: StructWorld) -> st.SearchStrategy[Case]:
    """Draw arithmetic."""
    members = reads(world)
    leaves = st.one_of(members, members, members, constants(), _complement(members))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            _binary(inner),
            _division(inner),
            _shift(inner),
            inner.map(lambda one: Case(f"-{one.text}", f"-W({one.c})")),
            # The 0 or 1 of a condition.
            _compare(inner).map(lambda one: Case(f"({one.text})", f"(long)({one.c})")),
            _logic(inner).map(lambda one: Case(f"({one.text})", f"(long)({one.c})")),
        ),
        max_leaves=6,
    )


@st.composite
def _compare(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    sign = draw(st.sampled_from(_COMPARE))
    left, right = draw(inner), draw(inner)
    typed = "=" if sign == "==" and draw(st.booleans()) else sign
    return Case(f"{left.text} {typed} {right.text}", f"W({left.c}) {sign} W({right.c})")


@st.composite
def _logic(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    sign = draw(st.sampled_from(("&&", "||")))
    terms = draw(st.lists(inner, min_size=2, max_size=3))
    return Case(
        f" {sign} ".join(f"({one.text})" for one in terms),
        f" {sign} ".join(f"({one.c})" for one in terms),
    )


_POINTERS = st.sampled_from(
    (
        Case("skb->to", "skb->to"),
        Case("!skb->to", "!skb->to"),
        Case("skb->to == NULL", "skb->to == 0"),
        Case("skb->to == skb->also", "skb->to == skb->also"),
        Case("skb->to->back != skb", "D(skb->to)->back != skb"),
        Case("0 != skb->also.next", "D(skb->also)->next"),
        Case('skb->text == "abc"', 'IS(skb->text, "abc")'),
        Case('skb->text != "abcdef"', '!IS(skb->text, "abcdef")'),
        Case('"" == skb->text', 'IS(skb->text, "")'),
        Case('skb->label == "abc"', 'SAME(skb->label, "abc")'),
        Case('skb->label != "abcde"', '!SAME(skb->label, "abcde")'),
        Case('skb->to->back->label == ""', 'SAME(D(D(skb->to)->back)->label, "")'),
        Case('!(skb->to->back->text == "abcde")', '!IS(D(D(skb->to)->back)->text, "abcde")'),
    )
)


def expressions(world: StructWorld) -> st.SearchStrategy[Case]:
    """Draw whole expressions."""
    values = numbers(world)
    return st.recursive(
        st.one_of(_compare(values), _compare(values), values, _POINTERS),
        lambda inner: st.one_of(
            _logic(inner), inner.map(lambda one: Case(f"!({one.text})", f"!({one.c})"))
        ),
        max_leaves=4,
    )


TEXTS = (b"abc\0xx", b"abcdef", b"\0abcde", b"abcde\0", b"abcd\0\0")
POINTERS = st.sampled_from((0, 1, 1, 1, 2, 2, 0xDEAD000000000100))
CONTENTS = st.one_of(
    st.binary(min_size=32, max_size=64),
    st.lists(
        st.sampled_from((b"\0", b"\1", b"\x80", b"\xff", b"\x7f", b"\3")), min_size=8, max_size=64
    ).map(b"".join),
)
