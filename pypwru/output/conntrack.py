"""The conntrack entry of a packet, as text and JSON (--output-ct).

States, directions and status bits are named as in nft's ``ct state``, ``ct direction`` and
``ct status``; status bits that nft has no name for as in the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.output import tuples
from pypwru.output.tuples import Tuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# enum ip_conntrack_info, enum ip_conntrack_status: uapi/linux/netfilter/nf_conntrack_common.h.
_STATES = ("established", "related", "new")
_IS_REPLY = len(_STATES)  # IP_CT_IS_REPLY: from here on the same states in reply direction
_UNTRACKED = 7
_TEMPLATE = 1 << 11
STATUS = {
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
_ICMP = (1, 58)


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
    original: Tuple | None = None
    reply: Tuple | None = None


# So many parameters because they are the members of struct part_ct, in their order.
def connection(
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

    def ends(saddr: bytes, daddr: bytes, sport: bytes, dport: bytes) -> Tuple:
        addresses = tuples.address(l3, saddr), tuples.address(l3, daddr)
        ports = int.from_bytes(sport, "big"), int.from_bytes(dport, "big")
        return Tuple(*addresses, *ports, l4, "", l3)

    return Connection(
        _STATES[info % _IS_REPLY],
        "reply" if info >= _IS_REPLY else "original",
        zone,
        mark,
        tuple(word for bit, word in STATUS.items() if status >> bit & 1),
        ends(original_saddr, original_daddr, original_sport, original_dport),
        ends(reply_saddr, reply_daddr, reply_sport, reply_dport),
    )


def _icmp(ends: Tuple) -> dict[str, int]:
    """Decode type, code and id, which ICMP has in place of ports."""
    return {"type": ends.dport >> 8, "code": ends.dport & 0xFF, "id": ends.sport}


def _ends_text(ends: Tuple) -> str:
    if ends.l4 not in _ICMP:
        return tuples.text(ends, flags=False)
    numbers = ",".join(f"{name}={number}" for name, number in _icmp(ends).items())
    bare = tuples.text(ends._replace(sport=0, dport=0), flags=False)
    return f"{bare[:-1]}:{numbers})"


def text(found: Connection | None) -> str:
    """Return the text of column CT; empty for None.

    ``  new original zone 7 mark 0x2a confirmed,dnat ORIGINAL reply REPLY``, with 5-tuples in
    capitals here; a zone or mark of 0 is left out.
    """
    if not found:
        return ""
    words = [found.state, found.direction or ""]
    words += [f"zone {found.zone}"] * bool(found.zone)
    words += [f"mark {found.mark:#x}"] * bool(found.mark)
    words.append(",".join(found.status))
    if found.original and found.reply:
        words += [_ends_text(found.original), "reply", _ends_text(found.reply)]
    return "  " + " ".join(filter(None, words))


def _ends_members(ends: Tuple) -> dict[str, object]:
    members = tuples.members(ends, flags=False)
    if ends.l4 in _ICMP and members:
        members |= {"sport": 0, "dport": 0, "icmp": _icmp(ends)}
    return members


def members(found: Connection | None) -> Mapping[str, object] | None:
    """Return the JSON object without members that have no value; None for None."""
    if not found:
        return None
    numbers = {"direction": found.direction, "zone": found.zone}
    known: dict[str, object] = {"state": found.state, **numbers}
    if found.original and found.reply:
        known |= {
            "mark": found.mark,
            "status": found.status,
            "original": _ends_members(found.original),
            "reply": _ends_members(found.reply),
        }
    return {name: value for name, value in known.items() if value is not None}
