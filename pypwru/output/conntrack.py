"""The conntrack entry of a packet, as text and JSON (--output-ct).

States, directions and status bits are named as in nft's ``ct state``, ``ct direction`` and
``ct status``; status bits that nft has no name for as in the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.output import tuples
from pypwru.output.tuples import FiveTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# enum ip_conntrack_info, enum ip_conntrack_status: uapi/linux/netfilter/nf_conntrack_common.h.
_STATES = ("established", "related", "new")
_IS_REPLY = len(_STATES)  # IP_CT_IS_REPLY: from here on the same states in reply direction
_UNTRACKED = 7
_TEMPLATE = 1 << 11
STATUS_NAMES = {
    0: "expected",
    1: "seen-reply",
    2: "assured",
    3: "confirmed",
    4: "snat",
    5: "dnat",
    9: "dying",
    13: "helper",
    14: "offload",
    15: "hw-offload",
}
_ICMP_PROTOCOLS = (1, 58)


class Connection(NamedTuple):
    """The connection of a packet (``struct nf_conn``).

    Args:
        state: new, related or established; untracked: excluded from tracking; template: not tracked
            yet, with the zone to use.
        direction: original or reply; None for untracked and template.
        zone: conntrack zone; None for untracked.
        mark: nf_conn.mark, not skb->mark.
        status: names of IPS_* bits.
        original: 5-tuple of the original direction; None for untracked and template.
        reply: 5-tuple of the reply direction, as replies have it before NAT; None likewise.
    """

    state: str
    direction: str | None = None
    zone: int | None = None
    mark: int = 0
    status: tuple[str, ...] = ()
    original: FiveTuple | None = None
    reply: FiveTuple | None = None


# So many parameters because they are the members of struct part_ct, in their order.
def decode_connection(
    mark: int,
    status: int,
    state: int,
    l3: int,
    l4: int,
    zone: int,
    original_sport: bytes,
    original_dport: bytes,
    reply_sport: bytes,
    reply_dport: bytes,
    original_saddr: bytes,
    original_daddr: bytes,
    reply_saddr: bytes,
    reply_daddr: bytes,
) -> Connection | None:
    """Decode the members of ``struct part_ct``; None if conntrack hasn't processed the packet.

    Args:
        mark: nf_conn.mark.
        status: IPS_* bits.
        state: enum ip_conntrack_info plus 1; 0: conntrack hasn't processed the packet.
        l3: 4 or 6; 0 for untracked and template.
        l4: IP protocol number.
        zone: conntrack zone.
        original_sport: network byte order; of ICMP the id.
        original_dport: network byte order; of ICMP type and code, a byte each.
        reply_sport: as original_sport.
        reply_dport: as original_dport.
        original_saddr: 16 bytes in network byte order, IPv4 in the first four.
        original_daddr: as original_saddr.
        reply_saddr: as original_saddr.
        reply_daddr: as original_saddr.
    """
    if not state:
        return None
    info = state - 1
    if info == _UNTRACKED:
        return Connection("untracked")
    if status & _TEMPLATE:
        return Connection("template", zone=zone)

    def make_tuple(saddr: bytes, daddr: bytes, sport: bytes, dport: bytes) -> FiveTuple:
        addresses = tuples.format_address(l3, saddr), tuples.format_address(l3, daddr)
        ports = int.from_bytes(sport, "big"), int.from_bytes(dport, "big")
        return FiveTuple(*addresses, *ports, l4, "", l3)

    return Connection(
        _STATES[info % _IS_REPLY],
        "reply" if info >= _IS_REPLY else "original",
        zone,
        mark,
        tuple(name for bit, name in STATUS_NAMES.items() if status >> bit & 1),
        make_tuple(original_saddr, original_daddr, original_sport, original_dport),
        make_tuple(reply_saddr, reply_daddr, reply_sport, reply_dport),
    )


def _icmp_fields(five_tuple: FiveTuple) -> dict[str, int]:
    """Decode type, code and id, which ICMP has in place of ports."""
    return {"type": five_tuple.dport >> 8, "code": five_tuple.dport & 0xFF, "id": five_tuple.sport}


def _tuple_text(five_tuple: FiveTuple) -> str:
    if five_tuple.l4 not in _ICMP_PROTOCOLS:
        return tuples.text(five_tuple, flags=False)
    numbers = ",".join(f"{name}={number}" for name, number in _icmp_fields(five_tuple).items())
    bare = tuples.text(five_tuple._replace(sport=0, dport=0), flags=False)
    return f"{bare[:-1]}:{numbers})"


def text(entry: Connection | None) -> str:
    """Return the text of column CT; empty for None.

    ``  new original zone 7 mark 0x2a confirmed,dnat ORIGINAL reply REPLY``, with 5-tuples in
    capitals here; a zone or mark of 0 is left out.
    """
    if not entry:
        return ""
    fields = [entry.state, entry.direction or ""]
    fields += [f"zone {entry.zone}"] * bool(entry.zone)
    fields += [f"mark {entry.mark:#x}"] * bool(entry.mark)
    fields.append(",".join(entry.status))
    if entry.original and entry.reply:
        fields += [_tuple_text(entry.original), "reply", _tuple_text(entry.reply)]
    return "  " + " ".join(filter(None, fields))


def _tuple_members(five_tuple: FiveTuple) -> dict[str, object]:
    members = tuples.members(five_tuple, flags=False)
    if five_tuple.l4 in _ICMP_PROTOCOLS and members:
        members |= {"sport": 0, "dport": 0, "icmp": _icmp_fields(five_tuple)}
    return members


def members(entry: Connection | None) -> Mapping[str, object] | None:
    """Return the JSON object without members that have no value; None for None."""
    if not entry:
        return None
    numbers = {"direction": entry.direction, "zone": entry.zone}
    entries: dict[str, object] = {"state": entry.state, **numbers}
    if entry.original and entry.reply:
        entries |= {
            "mark": entry.mark,
            "status": entry.status,
            "original": _tuple_members(entry.original),
            "reply": _tuple_members(entry.reply),
        }
    return {name: value for name, value in entries.items() if value is not None}
