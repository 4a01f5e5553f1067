"""An object a line: pwru's keys in pwru's order, and what pwru leaves out.

The bytes are those of Go's ``encoding/json`` with HTML escaping off: no spaces, text as UTF-8 with
the escapes of encode.go, and of what else a terminal would obey.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pypwru.output.printer import Form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.output.columns import Column

# In the order of pwru's jsonPrinter; those that pwru doesn't have stand where they belong.
KEYS = (
    "skb",
    "packet_id",
    "skb_shared_info",
    "cpu",
    "process",
    "func",
    "type",
    "caller_func",
    "location",
    "nft",
    "time",
    "timestamp",
    "netns",
    "netns_name",
    "mark",
    "iface",
    "proto",
    "mtu",
    "len",
    "cb",
    "tuple",
    "tunnel_tuple",
    "ct",
    "stack",
    "skb_metadata",
    "skb_members",
    "xdp_members",
    "bpfmap",
)
# What Go escapes and Python doesn't: a byte that isn't UTF-8 (PEP 383 keeps it as a surrogate), and
# two line ends of JavaScript. What neither does: DEL, C1, and what turns the direction of writing.
_SPECIAL = re.compile(
    "[\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    return "\\ufffd" if "\ud800" <= letter <= "\udfff" else f"\\u{ord(letter):04x}"


def encode(value: object) -> str:
    """``value`` as Go writes it."""
    if type(value) is int:
        return str(value)
    return _SPECIAL.sub(_escape, _encode(value))


class Json(Form):
    """An object an event.

    Args:
        columns: of the run.
    """

    end = "}\n"
    types = True

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(sorted(columns, key=lambda column: KEYS.index(column.name)))

    def header(self) -> str:
        """None."""
        return ""

    def writer(self, column: Column) -> Callable[[Any], str]:
        """Key and value; nothing where there is none."""
        key = ("{" if column is self.columns[0] else ",") + f'"{column.name}":'
        member_of = column.json

        def write(value: Any) -> str:
            member = member_of(value)
            return "" if member is None else key + encode(member)

        return write
