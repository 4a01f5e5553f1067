"""The comment of a packet: what the trace knows of it, as one line of logfmt.

``func=ip_rcv skb=0xff184d00c08b6300 process=/usr/bin/ping pid=264 ...``: pairs of key and value,
in the order of COLUMNS; a key without a value is left out. Values are quoted as those of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pypwru.gotext import log_value
from pypwru.output import nft
from pypwru.output.columns import Column, Names, event_type, name_and_reason, namespace, program
from pypwru.output.parts import Flow, Function, Packet, Part
from pypwru.output.printer import Form, Printer

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.nft_part import Nft

Pairs = Mapping[str, object]

# Characters of a rule's text, which may list a set: 64 KiB of comment, cut, would be no logfmt.
_LONGEST = 4096


def _function(function: Function, names: Names) -> Pairs:
    return {"func": name_and_reason(function, names)[0]}


def _packet(packet: Packet, names: Names) -> Pairs:
    process = program(packet, names)
    return {"skb": hex(packet.skb), "process": process, "pid": packet.pid, "cpu": packet.cpu}


def _flow(flow: Flow, names: Names) -> Pairs:
    return {
        "netns": flow.netns or "",
        "netns_name": namespace(flow, names),
        "iface": flow.ifname,
    }


def _end(function: Function, names: Names) -> Pairs:
    return {
        "type": event_type(function, names),
        "drop_reason": name_and_reason(function, names)[1],
    }


def _nft(part: Nft | None, names: Names) -> Pairs:
    what = nft.said(part, names.chain)
    if what is None:
        return {}
    return {
        "nft.chain": nft.chain_text(what),
        "nft.rule": nft.rule_text(what),
        "nft.verdict": what.verdict,
        "nft.text": ((what.rule and what.nft.text) or "")[:_LONGEST],
        "nft.comment": what.nft.comment,
    }


COLUMNS = (
    Column("func", "", "", Part.FUNCTION, _function),
    Column("packet", "", "", Part.PACKET, _packet),
    Column("flow", "", "", Part.FLOW, _flow),
    Column("end", "", "", Part.FUNCTION, _end),
    Column("nft", "", "", Part.NFT, _nft, enabled=lambda config: config.asks_nft),
)


class _Logfmt(Form):
    """Pairs with a space before each but the first."""

    end = ""
    types = True

    def header(self) -> str:
        """None."""
        return ""

    def writer(self, column: Column) -> Callable[[Any], str]:
        """Of the column's pairs."""
        cut = 1 if column is self.columns[0] else 0

        def write(pairs: Pairs) -> str:
            texts = ((key, log_value(value)) for key, value in pairs.items() if value != "")
            return "".join(f" {key}={text}" for key, text in texts)[cut:]

        return write


class Comments:
    """Makes comments, by the printer's way with parts that repeat.

    Args:
        config: what records have.
        names: of what is in them.
    """

    def __init__(self, config: Config, names: Names) -> None:
        form = _Logfmt([column for column in COLUMNS if column.enabled(config)])
        self._made: Sequence[bytes] = ()
        self._printer = Printer(form, names, self._keep, config)

    def of(self, records: Sequence[Slices]) -> Sequence[bytes]:
        """The comment of each."""
        self._made = ()
        self._printer.show(records)
        return self._made

    def _keep(self, comments: Sequence[bytes]) -> None:
        self._made = comments
