"""The comment of a packet in pcapng: the fields of its event as one line of logfmt.

``func=ip_rcv skb=0xff184d00c08b6300 process=/usr/bin/ping pid=264 ...``: pairs of key and value,
in the order of COLUMNS; a key without a value is left out. Values are quoted as in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pypwru.go_values import format_log_value
from pypwru.names.event_names import NameResolver, event_type, name_and_reason
from pypwru.nft import render as nft_render
from pypwru.output.columns import Column, namespace, process_path
from pypwru.output.printer import Formatter, Printer
from pypwru.wire.fields import FlowFields, FunctionFields, PacketFields, Part, has_part

if TYPE_CHECKING:
    from pypwru.nft.record import NftPart
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

Pairs = Mapping[str, object]

# Characters of a rule's text, which may include a set. A comment that is truncated at the 64 KiB of
# a pcapng option wouldn't be valid logfmt.
_MAX_TEXT_LENGTH = 4096


def _function(function: FunctionFields, names: NameResolver) -> Pairs:
    return {"func": name_and_reason(function, names)[0]}


def _packet(packet: PacketFields, names: NameResolver) -> Pairs:
    process = process_path(packet, names)
    return {"skb": hex(packet.skb), "process": process, "pid": packet.pid, "cpu": packet.cpu}


def _flow(flow: FlowFields, names: NameResolver) -> Pairs:
    return {
        "netns": flow.netns or "",
        "netns_name": namespace(flow, names),
        "iface": flow.ifname,
    }


def _type_and_reason(function: FunctionFields, names: NameResolver) -> Pairs:
    return {
        "type": event_type(function, names),
        "drop_reason": name_and_reason(function, names)[1],
    }


def _nft(part: NftPart | None, names: NameResolver) -> Pairs:
    event = nft_render.decode(part, names.chain)
    if event is None:
        return {}
    return {
        "nft.chain": nft_render.chain_text(event),
        "nft.rule": nft_render.rule_text(event),
        "nft.verdict": event.verdict,
        "nft.text": ((event.rule and event.nft.text) or "")[:_MAX_TEXT_LENGTH],
        "nft.comment": event.nft.comment,
    }


COLUMNS = (
    Column("func", "", "", Part.FUNCTION, _function),
    Column("packet", "", "", Part.PACKET, _packet),
    Column("flow", "", "", Part.FLOW, _flow),
    Column("end", "", "", Part.FUNCTION, _type_and_reason),
    Column("nft", "", "", Part.NFT, _nft),
)


class _LogfmtFormatter(Formatter):
    """The form of pairs, separated by spaces."""

    terminator = ""
    has_event_type = True

    def header(self) -> str:
        """Return an empty string: comments have no titles."""
        return ""

    def column_writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats the pairs of ``column``."""
        skipped = 1 if column is self.columns[0] else 0

        def write(pairs: Pairs) -> str:
            texts = ((key, format_log_value(value)) for key, value in pairs.items() if value != "")
            return "".join(f" {key}={text}" for key, text in texts)[skipped:]

        return write


class CommentRenderer:
    """Renderer of comments, by a ``Printer``, which caches the texts of parts.

    Args:
        layout: the layout of records; a part that they lack has no pairs.
        names: the name resolver.
    """

    def __init__(self, layout: RecordLayout, names: NameResolver) -> None:
        form = _LogfmtFormatter([one for one in COLUMNS if has_part(layout, one.part)])
        self._rendered: Sequence[bytes] = ()
        self._printer = Printer(form, names, self._store, layout)

    def render(self, records: Sequence[RawRecord]) -> Sequence[bytes]:
        """Return the comment of each record, UTF-8."""
        self._rendered = ()
        self._printer.show(records)
        return self._rendered

    def _store(self, comments: Sequence[bytes]) -> None:
        self._rendered = comments
