"""Tokens, precedence, and errors with their column."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pypwru.errors import FilterError
from pypwru.expr import compile_filter_expression, compile_members
from pypwru.expr.ast import (
    BinaryExpr,
    IndexExpr,
    LiteralExpr,
    LogicExpr,
    MemberExpr,
    NameExpr,
    Node,
    StringExpr,
    UnaryExpr,
)
from pypwru.expr.int_types import U32, U64, IntType
from pypwru.expr.parse import MAX_DEPTH, parse
from pypwru.expr.position import Position
from tests.data.expression_btf import btf

FLAG = "--filter-skb-expr"


def tree(text: str) -> Node:
    return parse(Position(text, FLAG))


def shape(node: Node) -> str:
    """Return the tree as text, fully parenthesized."""
    match node:
        case BinaryExpr(operator, left, right):
            return f"({shape(left)} {operator} {shape(right)})"
        case LogicExpr(operator, terms):
            return "(" + f" {operator} ".join(map(shape, terms)) + ")"
        case UnaryExpr(operator, operand):
            return f"{operator}{shape(operand)}"
        case MemberExpr(parent, name):
            return f"{shape(parent)}.{name}"
        case IndexExpr(parent, index):
            return f"{shape(parent)}[{shape(index)}]"
        case LiteralExpr(value):
            return str(value)
        case StringExpr(data):
            return repr(data)
        case NameExpr(text):
            return text
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("skb->a.b -> c", "skb.a.b.c"),
        ("a = 1", "(a == 1)"),
        ("a & 1 == 0", "(a & (1 == 0))"),
        ("a | b ^ c & d", "(a | (b ^ (c & d)))"),
        ("a || b && c || d", "(a || (b && c) || d)"),
        ("a && b && c", "(a && b && c)"),
        ("(a && b) && c", "((a && b) && c)"),
        ("a - b - c", "((a - b) - c)"),
        ("a - (b - c)", "(a - (b - c))"),
        ("a + b * c % d << 1", "((a + ((b * c) % d)) << 1)"),
        ("a < b == c >= d", "((a < b) == (c >= d))"),
        ("a<<1>>2<3", "(((a << 1) >> 2) < 3)"),
        ("!a.b == -~+c[1][2].d", "(!a.b == -~+c[1][2].d)"),
        ("*a->b", "a.b[0]"),
        ("a[b + 1]", "a[(b + 1)]"),
        ("'a' == \"b\\n\"", "(97 == b'b\\n')"),
        ("((a))", "a"),
        ("\ta\n==\r1 ", "(a == 1)"),
    ],
)
def test_precedence_of_c(text: str, expected: str) -> None:
    assert shape(tree(text)) == expected


@pytest.mark.parametrize(
    ("text", "value", "number"),
    [
        ("10", 10, IntType(4, False)),
        ("010", 8, IntType(4, False)),
        ("00", 0, IntType(1, False)),
        ("0" * 5000 + "17", 15, IntType(4, False)),
        ("037777777777", 2**32 - 1, U32),
        ("0o10", 8, IntType(4, False)),
        ("0b101", 5, IntType(3, False)),
        ("0XfF", 255, IntType(8, False)),
        ("0", 0, IntType(1, False)),
        ("4294967295", 2**32 - 1, IntType(33, False)),
        ("0xffffffff", 2**32 - 1, U32),
        ("0xffffffffL", 2**32 - 1, IntType(33, False)),
        ("1U", 1, U32),
        ("4294967296u", 2**32, U64),
        ("1ull", 1, U64),
        ("1LU", 1, U64),
        ("18446744073709551615", 2**64 - 1, U64),
        ("9223372036854775807", 2**63 - 1, IntType(63, False)),
        ("'\\x41'", 65, IntType(7, False)),
        ("'\\''", 39, IntType(6, False)),
        ("'\\0'", 0, IntType(1, False)),
        ("'\\377'", 255, IntType(8, False)),
        ("'\"'", 34, IntType(6, False)),
    ],
)
def test_literals(text: str, value: int, number: IntType) -> None:
    node = tree(text)
    assert isinstance(node, LiteralExpr)
    assert (node.value, node.int_type) == (value, number)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 1, "the expression is empty"),
        ("   ", 4, "the expression is empty"),
        ("skb-", 5, "expected, not the end; quote the expression: '>' is the shell's"),
        ("skb->len ==", 12, "a member, a number or '(' expected, not the end"),
        ("skb->len 5", 10, "an operator or the end expected, not '5'"),
        ("skb->", 6, "the name of a member expected, not the end"),
        ("skb->5", 6, "the name of a member expected, not '5'"),
        ("(skb->len", 10, "')' expected, not the end"),
        ("skb->cb[1", 10, "']' expected, not the end"),
        ("skb->len @ 5", 10, "unexpected character '@'"),
        ("skb->len == 5 &", 16, "a member, a number or '(' expected, not the end"),
        ("skb->len == \u00e9", 13, "unexpected character '\u00e9'"),
        ("skb->len == \x07", 13, "unexpected character '\\x07'"),
        ("skb->len == 'a", 13, "the quote ' does not end"),
        ("skb->len == 'ab'", 13, "'ab' is not one character of one byte"),
        ("skb->len == ''", 13, "'' is not one character of one byte"),
        ("skb->len == '\\q'", 14, "C has no such escape"),
        ('skb->cb == "a\\0b"', 12, "a string ends at its first NUL"),
        ("skb->len == 1.5", 13, "'1.5' is not a number"),
        ("skb->len == 08", 13, "'08' is not a number"),
        ("skb->len == " + "9" * 5000, 13, "99999... (5000 characters) does not fit into 64 bits"),
        ("skb->len == 0x" + "f" * 5000, 13, "fffff... (5002 characters) does not fit into 64 bits"),
        ("skb->len == 0x", 13, "'0x' is not a number"),
        ("skb->len == 0b12", 13, "'0b12' is not a number"),
        ("skb->len == 1UU", 13, "'1UU' is not a number"),
        ("skb->len == 18446744073709551616", 13, "does not fit into 64 bits"),
        ("htons(1)", 6, "functions can't be called here"),
        ("skb->len ? 1 : 2", 10, "unexpected character '?'"),
        ("skb->len === 1", 12, "a member, a number or '(' expected, not '='"),
        ("(" * 100 + "1" + ")" * 100, 66, "nested too deep"),
        ("skb->len == " + "-" * 200 + "1", 77, "nested too deep"),
        ("1" + "+1" * 100, 130, "nested too deep"),
        ("skb" + "->next" * 100, 390, "nested too deep"),
    ],
)
def test_syntax_errors_have_a_column(text: str, column: int, problem: str) -> None:
    with pytest.raises(FilterError) as caught:
        tree(text)
    message = str(caught.value)
    assert f": column {column}: " in message
    assert problem in message
    assert "\n" not in message


def test_many_terms_are_not_nested() -> None:
    text = " || ".join(f"skb->len == {n}" for n in range(2000))
    assert isinstance(tree(text), LogicExpr)
    assert MAX_DEPTH < 2000


WORDS = st.sampled_from(
    (
        "skb", "xdp", "->", ".", "len", "dev", "cb", "[", "]", "(", ")", "0", "1", "0x10", "010",
        "'a'", '"eth0"', "==", "=", "!=", "<", "<=", ">", ">=", "&&", "||", "!", "~", "-", "+", "*",
        "/", "%", "&", "|", "^", "<<", ">>", "OPEN", "NULL", "true", " ", "\n", "pairs", "low",
        "protocol", "name", "18446744073709551615", "three", "signed_five", "wide", "tail", "next",
        "@", "\\", "'", '"', "\u20ac", "\udc80", "3", "64", "U", "skb->len", "skb->u64",
        "skb->dev->ifindex", "skb->s64",
    )
)  # fmt: skip
RANDOM_TEXTS = st.one_of(
    st.text(max_size=60), st.lists(WORDS, max_size=25).map("".join), st.lists(WORDS).map(" ".join)
)


@given(RANDOM_TEXTS)
@example("skb->cb[-1]")
@example("skb[8388607].len")
@example("'\n0'")
@example("skb" * 3000)
@example("(skb->len)" * 300)
@example("!" * 5000)
@example('skb->dev->name == "\u20ac"')
def test_any_text_compiles_or_is_an_error(text: str) -> None:
    for root in ("skb", "xdp"):
        try:
            compile_filter_expression(text, root, btf()).body(-64)
        except FilterError as problem:
            assert "\n" not in str(problem)
        try:
            compile_members([text], root, btf()).body(-64)
        except FilterError as problem:
            assert "\n" not in str(problem)
