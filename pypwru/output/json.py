"""JSON output, one object per line: pwru's keys in pwru's order, and keys that pwru lacks.

The bytes are those of Go's ``encoding/json`` with HTML escaping off: no spaces, text as UTF-8 with
the escapes of encode.go. Control characters for terminals are escaped as well.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pypwru.output.fields import KEYS
from pypwru.output.printer import Formatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.output.columns import Column

# Escaped by Go but not by Python: bytes that aren't UTF-8 (surrogates, PEP 383), and two line
# terminators of JavaScript (U+2028, U+2029). By neither: DEL, C1 controls, and invisible and
# bidirectional format characters.
_ESCAPED = re.compile(
    "[\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return "\\ufffd" if "\ud800" <= char <= "\udfff" else f"\\u{ord(char):04x}"


def encode(value: object) -> str:
    """Encode ``value`` to JSON as Go does."""
    if type(value) is int:
        return str(value)
    return _ESCAPED.sub(_escape, _encode(value))


class JsonFormatter(Formatter):
    """The form with one JSON object per event.

    Args:
        columns: of the run.
    """

    terminator = "}\n"
    has_event_type = True

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(sorted(columns, key=lambda column: KEYS.index(column.name)))

    def header(self) -> str:
        """Return an empty string: JSON has no titles."""
        return ""

    def column_writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats key and value; empty text for a value of None."""
        key = ("{" if column is self.columns[0] else ",") + f'"{column.name}":'
        to_json = column.json

        def write(value: Any) -> str:
            member = to_json(value)
            return "" if member is None else key + encode(member)

        return write
