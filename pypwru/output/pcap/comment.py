"""The comment of a packet in pcapng: the fields of its event as one line of logfmt.

``func=ip_rcv skb=0xff184d00c08b6300 process=/usr/bin/ping pid=264 ...``: pairs of key and value,
in the order of COLUMNS; a key without a value is left out. Values are quoted as in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pypwru.gotext import log_value
from pypwru.output import nft
from pypwru.output.columns import Column, namespace, program
from pypwru.output.parts import Flow, Function, Packet, Part
from pypwru.output.printer import Form, Printer
from pypwru.resolve.event_names import Names, event_type, name_and_reason

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.nft_part import Nft

Pairs = Mapping[str, object]

# Characters of a rule's text, which may include a set. A comment that is truncated at the 64 KiB of
# a pcapng option wouldn't be valid logfmt.
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
    """The form of pairs, separated by spaces."""

    end = ""
    types = True

    def header(self) -> str:
        """Return an empty string: comments have no titles."""
        return ""

    def writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats the pairs of ``column``."""
        cut = 1 if column is self.columns[0] else 0

        def write(pairs: Pairs) -> str:
            texts = ((key, log_value(value)) for key, value in pairs.items() if value != "")
            return "".join(f" {key}={text}" for key, text in texts)[cut:]

        return write


class Comments:
    """Renderer of comments, by a ``Printer``, which caches the texts of parts.

    Args:
        config: of the run; gives the layout of records.
        names: the name resolver.
    """

    def __init__(self, config: Config, names: Names) -> None:
        form = _Logfmt([column for column in COLUMNS if column.enabled(config)])
        self._made: Sequence[bytes] = ()
        self._printer = Printer(form, names, self._keep, config)

    def of(self, records: Sequence[Slices]) -> Sequence[bytes]:
        """Return the comment of each record, UTF-8."""
        self._made = ()
        self._printer.show(records)
        return self._made

    def _keep(self, comments: Sequence[bytes]) -> None:
        self._made = comments
