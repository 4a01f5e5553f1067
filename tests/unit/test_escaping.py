"""Which characters are escaped, compared with Unicode's tables; and how, with a JSON parser."""

from __future__ import annotations

import json
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from pypwru.escaping import escape_unprintable

# The classes of UAX #9 that change the direction of the text after them.
BIDI = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN"))
# Of DerivedCoreProperties.txt of Unicode 15: Default_Ignorable_Code_Point that is assigned.
IGNORABLE = (
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0, 0xE0001),
    *range(0x180B, 0x1810), *range(0x200B, 0x2010), *range(0x202A, 0x202F),
    *range(0x2060, 0x2065), *range(0x2066, 0x2070), *range(0xFE00, 0xFE10),
    *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0020, 0xE0080),
    *range(0xE0100, 0xE01F0),
)  # fmt: skip


def test_control_and_invisible_characters() -> None:
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        category = unicodedata.category(letter)
        is_visible = category[0] in "LMNPS" and unicodedata.bidirectional(letter) not in BIDI
        escaped = escape_unprintable(letter)
        if letter == " " or (is_visible and code not in (*IGNORABLE, 0x2800)):
            assert escaped == letter
        elif 0xDC80 <= code <= 0xDCFF:
            assert escaped == f"\\x{code - 0xDC00:02x}"
        else:
            assert escaped.isascii() and escaped.isprintable()
            assert json.loads(f'"{escaped}"') == letter, hex(code)


@given(st.text())
def test_escaped_text_is_one_json_line(text: str) -> None:
    escaped = escape_unprintable(text)
    assert escaped.isprintable()
    if not {"\\", '"'} & set(text):
        assert json.loads(f'"{escaped}"') == text


def test_name_that_is_not_utf8() -> None:
    name = b"a\x9b\xff\xc3\xa9".decode("utf-8", "surrogateescape")
    assert escape_unprintable(name) == "a\\x9b\\xffé"
