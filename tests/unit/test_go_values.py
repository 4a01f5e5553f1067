"""Go's notations of numbers, lists and quotes, compared with Python's parsers of them."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pypwru.go_values import (
    format_log_value,
    go_quote,
    parse_bool,
    parse_csv,
    parse_int,
    parse_uint,
    parse_uint_base,
)


def python_int(text: str) -> int | None:
    """Parse like strconv: int(text, 0) differs in octal 017, spaces, signs and other digits."""
    if not text.isascii() or text.strip() != text or text[:1] in {"+", "-"}:
        return None
    octal = text[1:2] in set("01234567_") and text[:1] == "0"
    try:
        return int(f"0o{text[1:]}" if octal else text, 0)
    except ValueError:
        return None


@given(st.text("0123456789abfoxXOB_", max_size=7) | st.integers(0).map(str))
@example("0x")
@example("0_7")
@example("0x_f")
@example("_1")
@example("00")
@example("0")
def test_unsigned_numbers(text: str) -> None:
    expected = python_int(text)
    if expected is None or expected >= 1 << 32:
        reason = "invalid syntax" if expected is None else "value out of range"
        with pytest.raises(ValueError, match=f"^strconv.ParseUint: parsing .*: {reason}$"):
            parse_uint(text, 32)
    else:
        assert parse_uint(text, 32) == expected


@pytest.mark.parametrize("base", [10, 16])
def test_very_long_numbers(base: int) -> None:
    """Python's int() refuses them with its own message."""
    assert parse_uint_base("0" * 5000, base, 32) == 0
    assert parse_uint_base("0" * 5000 + "40000000", base, 32) == int("40000000", base)
    for digits in ("9" * 5000, f"{1 << 32}" + "0" * 5000, "1" + "0" * 32):
        with pytest.raises(
            ValueError, match=r"^strconv\.ParseUint: parsing .*: value out of range$"
        ):
            parse_uint_base(digits, base, 32)


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.sampled_from(["d", "#x", "#o", "#b", "_d"]))
def test_signed_numbers(number: int, form: str) -> None:
    assert parse_int(f"{number:{form}}", 32) == number


@pytest.mark.parametrize("text", ["2147483648", "-2147483649", "0x80000000"])
def test_range_of_signed_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"ParseInt.*value out of range"):
        parse_int(text, 32)


def test_bool_words() -> None:
    assert all(parse_bool(word) for word in ("1", "t", "T", "TRUE", "true", "True"))
    assert not any(parse_bool(word) for word in ("0", "f", "F", "FALSE", "false", "False"))
    for word in ("yes", "tRUE", "", " true"):
        with pytest.raises(ValueError, match=r"strconv\.ParseBool"):
            parse_bool(word)


@given(st.lists(st.text('ab,"  é', max_size=5), min_size=1, max_size=4))
def test_lists_written_by_python(fields: list[str]) -> None:
    class Lines(list[str]):
        write = list.append

    lines = Lines()
    csv.writer(lines, lineterminator="").writerow(fields)
    # A lone empty field is written as "", and Go too reads that as one empty field.
    assert list(parse_csv(lines[0])) == fields


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a', 'column 3: extraneous or missing " in quoted-field'),
        ('"a"b', 'column 3: extraneous or missing " in quoted-field'),
        ('x,"a"b', 'column 5: extraneous or missing " in quoted-field'),
        ('é,"a"b', 'column 6: extraneous or missing " in quoted-field'),
        ('a"b', 'column 2: bare " in non-quoted-field'),
        ('a,b"', 'column 4: bare " in non-quoted-field'),
    ],
)
def test_malformed_lists(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^parse error on line 1, {message}$"):
        parse_csv(text)


def test_empty_list() -> None:
    assert parse_csv("") == ()
    assert parse_csv(",") == ("", "")
    with pytest.raises(ValueError, match="line break"):
        parse_csv("a\nb")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_ascii_is_quoted_as_in_json(text: str) -> None:
    assert go_quote(text) == json.dumps(text)


def test_quotes_of_other_characters() -> None:
    assert go_quote("\a\b\f\n\r\t\v\x01\x7f") == r'"\a\b\f\n\r\t\v\x01\x7f"'
    assert go_quote("é\u200b\U000e0001") == '"é\\u200b\\U000e0001"'
    assert go_quote(b"\xff".decode("utf-8", "surrogateescape")) == r'"\xff"'


def test_log_values() -> None:
    values = ["kprobe-multi", 3, True, "", "a b", "a=1, b=2", r"a\b", 'say "x"', "a\nb", "/é"]
    assert [format_log_value(value) for value in values] == [
        "kprobe-multi",
        "3",
        "true",
        '""',
        '"a b"',
        '"a=1, b=2"',
        r"a\b",
        r'"say \"x\""',
        r'"a\nb"',
        "/é",
    ]
