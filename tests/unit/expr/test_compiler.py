"""The meaning of expressions, run by an interpreter that refuses what the verifier would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.asm import ebpf
from pypwru.errors import BTFError, FilterError
from pypwru.expr import compile_filter_expression
from tests.data.expression_btf import DEVICE, btf, memory
from tests.oracles.filter_machine import PACKET, Machine

FLAG = "--filter-skb-expr"
SKB = memory(
    (0, "<Q", PACKET),  # next: itself
    (8, "<Q", DEVICE),
    (16, "<I", 0x80000001),  # len
    (20, "<i", -1),  # minus
    (24, "<Q", 2**64 - 2),  # u64
    (32, "<q", -7),  # s64
    (40, "<B", 200),
    (41, "<b", -100),
    (42, ">H", 0x0800),  # protocol
    (44, ">I", 0x0A000001),  # saddr
    (48, ">Q", 0x0102030405060708),  # id
    (56, "<Q", 0b101 | 0b10000 << 3 | 7 << 16 | 0x5555 << 34 | 1 << 63),
    (64, "<Q", 0x1122334455667788),  # whole, hash
    (72, "<I", 9),  # state
    (76, "<i", -5),  # sign
    (80, "<Q", 1 << 40),  # large
    (88, "<Q", 1),
    (96, "<Q", 2),
    (104, "<Q", 3 | (0xFFFFFFFC << 32)),  # pairs[2]
    (112, "<Q", 0x0004000300020001),  # grid
    (120, "<I", 0x00060005),
    (124, "<i", 1),  # users
    (128, "<Q", int.from_bytes(b"abcdefgh", "little")),  # cb
    (216, "<B", 1),  # flag
    (224, "<Q", PACKET + 128),  # data
    (240, "<Q", PACKET + 128),  # alias
    (232, "<B", 65),  # letter
    (236, "<I", int.from_bytes(b"abcd", "little")),  # letters
    (256, "<i", 3),  # dev->ifindex
    (260, "<I", 1500),
    (264, "<Q", int.from_bytes(b"eth0", "little")),
    (296, "<I", 7),  # dev->kind
)


def matches(text: str, data: bytes = SKB) -> bool:
    body = compile_filter_expression(text, "skb", btf()).body(-40)
    return bool(Machine(data).run(body))


TRUE = (
    # Members: any mix of arrows, anonymous ones, arrays, pointers, elements of pointers.
    "skb->dev->ifindex == 3",
    "skb.dev.ifindex = 3",
    "(skb)->next->next.dev->mtu == 1500",
    "skb->hash == 0x55667788",
    "skb->whole >> 32 == 0x11223344",
    "skb->pairs[2].low == 3 && skb->pairs[2]->high == -4",
    "skb->grid[0][2] == 3 && skb->grid[1][2] == 6 && skb->grid[1][0] == 4",
    "skb->users.counter == 1",
    "skb->data[2] == 'c' && *skb->data == 'a' && skb->cb[7] == 'h'",
    "skb[0].len == skb->len && (*skb).len == skb->len",
    "skb->pairs[1 + 1].low == 3",
    "skb->tail[0] == 3",
    # Signs, widths, bit fields.
    "skb->minus == -1 && skb->minus < 0 && skb->minus < skb->u8",
    "skb->minus < skb->len",
    "skb->s8 == -100 && skb->u8 == 200 && skb->s8 < skb->u8",
    "skb->u64 == 0xfffffffffffffffe && skb->u64 == -2 && skb->u64 > 5",
    "skb->s64 == -7 && skb->s64 < 0 && skb->s64 >= -7",
    "skb->len == 0x80000001 && skb->len == 2147483649 && skb->len > 0x7fffffff",
    "skb->three == 5 && skb->signed_five == -16 && skb->plain == 7",
    "skb->across == 0x5555 && skb->yes && skb->yes == true",
    "skb->flag && skb->flag == true && skb->flag != false",
    # Network order is the host's here, so that < is right.
    "skb->protocol == 0x0800 && skb->protocol < 0x0801 && skb->protocol >= 0x0700",
    "skb->saddr == 0x0a000001 && skb->saddr >> 24 == 10",
    "skb->id == 0x0102030405060708",
    # Enums: by value, the field's own first.
    "skb->state == OPEN && OPEN == skb->state && skb->state != CLOSED",
    "(skb->state | 0) == OPEN",
    "skb->state == 9 && skb->dev->kind == CLOSED",
    "skb->sign == MINUS && skb->sign == -5 && skb->sign < PLUS",
    "skb->large == HUGE && skb->large == 1 << 40",
    "skb->len - 1 == ELSEWHERE",
    # Pointers.
    "skb->dev && skb->dev != NULL && skb->dev != 0 && !skb->opaque && skb->opaque == NULL",
    "skb->next == skb && skb",
    "skb->data - 128 == skb",
    # Arithmetic.
    "skb->s64 / 2 == -3 && skb->s64 % 2 == -1 && 20 / skb->s64 == -2 && 20 % skb->s64 == 6",
    "skb->s64 / -3 == 2 && -skb->s64 == 7 && +skb->s64 == -7",
    "skb->len / skb->opaque == 0 && skb->len % skb->opaque == skb->len",
    "skb->u64 / 2 == 0x7fffffffffffffff",
    "skb->s64 >> 1 == -4 && skb->u64 >> 63 == 1 && skb->u8 << 8 == 51200",
    "skb->len << 4 == 0x800000010",
    "~skb->len == 0x7ffffffe && ~skb->u8 == -201 && ~skb->u64 == 1",
    "~(skb->len & 0xff) == 0xfffffffe",
    "(skb->minus ^ 5) == -6 && (skb->minus & 0xff) == 255 && (skb->u8 | 7) == 207",
    "skb->dev->mtu * skb->dev->mtu == 2250000",
    "skb->u8 - 201 < 0",
    "(skb->u8 > 5) + (skb->u8 > 6) + (skb->u8 > 201) == 2",
    "-(skb->u8 > 5 && skb->flag) == -1 && !(skb->u8 > 5) == 0 && !!skb->u8 == 1",
    "2 + 3 * 4 - skb->u8 == -186",
    "0x100000000 < skb->u64 && skb->u64 > 0x100000000 && 5 < skb->u8",
    "(skb->u64 & 1) < -1 && (skb->len & 1) > -1",  # as in C: unsigned with one of 64 bits
    # Truth.
    "skb->u8 & 8",
    "!(skb->u8 & 4)",
    "skb->opaque || skb->flag",
    "skb->u8 && skb->s8",
    "!(skb->len > 0x80000001) && !(skb->flag && skb->opaque)",
    # What is not evaluated does not fail.
    "skb->opaque == 0 || skb->dev->next->ifindex == 1",
    "!(skb->opaque && skb->dev->next->ifindex == 1)",
    # Strings.
    'skb->dev->name == "eth0" && skb->dev->name != "eth1" && skb->dev->name != "eth"',
    'skb->alias == "abcdefgh" && skb->alias != "abcdefg" && skb->alias != "abcdefghi"',
    '"eth0" == skb->dev->name && !(skb->dev->name == "eth00")',
    'skb->letters == "abcd" && skb->letters != "abc"',
    '(skb->dev->name == "eth0") + (skb->letters == "abcd") == 2',
)  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_true_expressions(text: str) -> None:
    assert matches(text)
    assert not matches(f"!({text})")


@pytest.mark.parametrize(
    "text",
    [
        "skb->dev->next->ifindex == 0",  # NULL
        "!(skb->dev->next->ifindex == 1)",
        "skb->dev->next->ifindex != 1 || skb->flag",
        "skb->flag && skb->dev->next->next->next->mtu >= 0",
        'skb->dev->next->name != "eth0"',
        'skb->nothing && skb->other_alias == ""',
        '!(skb->other_alias == "a")',
        "skb->dev->next->ifindex || 1",
        "(skb->dev->next->ifindex == 1) == 0",
    ],
)
def test_failed_read_does_not_match(text: str) -> None:
    assert not matches(text)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("skb->nosuch == 1", 6, "struct sk_buff has no member nosuch"),
        ("skb->protcol == 1", 6, "struct sk_buff has no member protcol; did you mean protocol?"),
        ("skb->dev->nam == 1", 11, "struct net_device has no member nam; did you mean name?"),
        ("skb->len.x == 1", 10, "unsigned int has no members"),
        ("skb->len[0] == 1", 9, "unsigned int has no elements"),
        ("skb->cb[48] == 1", 8, "the array has 48 elements: 0 to 47"),
        ("skb->cb[-1] == 1", 9, "-1 is not an index"),
        ("skb[10000000].len == 1", 4, "element 10000000 is too far away: 1024 MiB at most"),
        ("skb->data[18446744073709551615]", 10, "is too far away"),
        ("skb->cb[skb->u8] == 1", 14, "an index must be a constant"),
        ("skb->cb == 1", 6, "char[48] is not a number: name an element, such as [0]"),
        ("skb->pairs[0] == 1", 11, "struct pair is not a number: name one of its members"),
        ("skb->users", 6, "struct refs is not a number: name one of its members"),
        ("skb->double == 1", 6, "double is not a number"),
        ("skb->wide == 1", 6, "__int128 lies in more than 8 bytes"),
        ("skb->opaque->x == 1", 14, "struct opaque *"),
        ("skb->nothing->x == 1", 15, "void has no members"),
        ("skb->nothing[0] == 1", 13, "void has no size"),
        ("skb->tail == 1", 6, "unsigned char[0] is not a number"),
        ("len == skb->len", 1, "len is a member: write skb->len"),
        ("skb->len == ETH_P_IP", 13, "ETH_P_IP is neither skb nor in an enum"),
        ("skb->len == OPEN", 13, "OPEN is 9 and 77 in different enums: write its number"),
        ('skb->data == "a"', 14, "a string can only be compared, by == or !="),
        ("skb->state == OPPEN", 15, "did you mean OPEN?"),
        ("skb->state == OPEN.x", 15, "a member of skb is expected"),
        ("5->len == skb->len", 1, "a member of skb is expected"),
        ("skb->len == -1", 10, "0 to 4294967295 and never -1"),
        ("skb->len != 0x100000000", 10, "never 4294967296"),
        ("skb->minus == 0xffffffff", 12, "-2147483648 to 2147483647 and never 4294967295"),
        ("skb->three == 8", 12, "0 to 7 and never 8"),
        ("skb->protocol == 0x10800", 15, "0 to 65535"),
        ("skb->flag == 2", 11, "0 to 1 and never 2"),
        ("skb->len / 0", 10, "a division by 0"),
        ("skb->len % (1 - 1)", 10, "a division by 0"),
        ("skb->len << 64", 10, "a shift by 64: 0 to 63 are possible"),
        ("skb->len >> -1", 10, "a shift by -1"),
        ('skb->len == "a"', 13, "a string can only be compared, by == or !="),
        ('skb->pairs == "a"', 15, "a string can only be compared, by == or !="),
        ('skb == "a"', 8, "a string can only be compared, by == or !="),
        ('"a" == "a" && skb', 1, "a string can only be compared, by == or !="),
        ('skb->cb < "a"', 9, "a string can only be compared"),
        ('skb->letters == "abcde"', 17, "the array has 4 characters: it is never this string"),
    ],
)  # fmt: skip
def test_type_errors_have_a_column(text: str, column: int, problem: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter_expression(text, "skb", btf())
    message = str(caught.value)
    assert message.startswith(f"{FLAG} '{text}': column {column}: ")
    assert problem in message


@pytest.mark.parametrize("text", ["5 == 5", "len > 5", "xdp->data", "skbfoo->len == 1", "OPEN"])
def test_expression_needs_the_root(text: str) -> None:
    with pytest.raises(FilterError, match="--filter-skb-expr must start with skb"):
        compile_filter_expression(text, "skb", btf())


def test_xdp_root() -> None:
    assert compile_filter_expression("xdp->data == 0", "xdp", btf()).body(0)
    with pytest.raises(FilterError, match="--filter-xdp-expr must start with xdp"):
        compile_filter_expression("skb->len == 0", "xdp", btf())
    with pytest.raises(FilterError, match="struct xdp_buff has no member len"):
        compile_filter_expression("xdp->len == 0", "xdp", btf())


def test_kernel_without_xdp_buff() -> None:
    from pypwru.btf.parse import parse
    from pypwru.btf.query import BTF
    from tests.data.btf_encoder import Encoder

    e = Encoder()
    e.integer("int", 4)
    with pytest.raises(BTFError, match="no struct xdp_buff"):
        compile_filter_expression("xdp->data", "xdp", BTF(parse(e.bytes())))


def count_reads(text: str) -> int:
    body = compile_filter_expression(text, "skb", btf()).body(0)
    return sum(insn.code == ebpf.CALL_HELPER for insn in body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("skb->len > 5 && skb->len < 9", 1),
        ("skb->dev->ifindex == 1 && skb->dev->mtu == 2", 3),
        ("skb->dev->ifindex + skb->dev->mtu == 2", 3),
        ("(skb->u8 == 1 || skb->minus == 2) && (skb->u8 == 3 || skb->minus == 4)", 3),
        ("skb->three == 1 || skb->signed_five == 2", 1),
        ("skb->len == 1 || 1 && 0", 1),
        ("0 && skb->len", 0),
    ],
)
def test_common_reads_are_shared(text: str, expected: int) -> None:
    assert count_reads(text) == expected


def test_small_stack_shares_fewer_reads() -> None:
    names = ("len", "minus", "u64", "s64", "u8", "s8", "state", "sign")
    text = " && ".join(f"skb->{name} != 1 && skb->{name} != 2" for name in names)
    expression = compile_filter_expression(text, "skb", btf())
    roomy, tight = expression.body(0), expression.body(-496)
    assert len(roomy) < len(tight)
    for body in (roomy, tight):
        assert Machine(SKB).run(body)
    with pytest.raises(FilterError, match=r"--filter-skb-expr '.*stack.*output options"):
        expression.body(-504)


def test_too_large_expression_is_refused() -> None:
    text = "skb->len"
    for _ in range(7):
        text = f"({text} + skb->u8 * ({text}))"
    with pytest.raises(FilterError, match=r"--filter-skb-expr '.*split it"):
        compile_filter_expression(text, "skb", btf()).body(0)


NUMBERS = st.one_of(
    st.integers(0, 70), st.integers(0, 2**64 - 1), st.sampled_from((2**31, 2**32 - 1, 2**63))
)
OPERATORS = st.sampled_from(("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "<", ">=", "=="))


@given(NUMBERS, OPERATORS, NUMBERS, st.sampled_from(("", "-", "~")))
def test_folding_equals_run_time(left: int, operator: str, right: int, unary: str) -> None:
    """Computed by folding, and at run time from a value of the same type in memory."""
    data = memory((24, "<Q", left))
    if left < 2**63:
        data = memory((32, "<q", left))
    name = "u64" if left >= 2**63 else "s64"
    try:
        text = f"{unary}({left} {operator} {right}) == {unary}(skb->{name} {operator} {right})"
        assert matches(text, data)
    except FilterError as problem:
        assert any(words in str(problem) for words in ("division", "shift", "never"))
