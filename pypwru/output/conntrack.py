"""What conntrack knows of a packet, as text and as an object: --output-ct.

The words are those of ``nft``, of ``ct state``, ``ct direction`` and ``ct status``; of the bits of
the status for which it has none those of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.output import tuples
from pypwru.output.tuples import Tuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# enum ip_conntrack_info, enum ip_conntrack_status: uapi/linux/netfilter/nf_conntrack_common.h.
_STATES = ("established", "related", "new")
_IS_REPLY = len(_STATES)  # IP_CT_IS_REPLY: behind them come the same of the answers
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
    """What a packet belongs to.

    Args:
        state: new, related, established; untracked: it is not to be tracked; template: it isn't
            yet, but has a zone in which it will be.
        direction: original or reply; None where there is no connection.
        zone: of conntrack; None where there is no template either.
        mark: the connection's, not the packet's.
        status: words for bits.
        original, reply: its first packet's ends, and those that answers have on the wire before
            NAT; None where there is no connection.
    """

    state: str
    direction: str | None = None
    zone: int | None = None
    mark: int = 0
    status: tuple[str, ...] = ()
    original: Tuple | None = None
    reply: Tuple | None = None


# Long arguments, since they are the members of part_ct in their order.
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
    """``struct part_ct`` with names; None where conntrack has not seen the packet."""
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
    """What ICMP has in the place of ports."""
    return {"type": ends.dport >> 8, "code": ends.dport & 0xFF, "id": ends.sport}


def _ends_text(ends: Tuple) -> str:
    if ends.l4 not in _ICMP:
        return tuples.text(ends, flags=False)
    numbers = ",".join(f"{name}={number}" for name, number in _icmp(ends).items())
    bare = tuples.text(ends._replace(sport=0, dport=0), flags=False)
    return f"{bare[:-1]}:{numbers})"


def text(found: Connection | None) -> str:
    """``  new original zone 7 mark 0x2a confirmed,dnat ORIGINAL reply REPLY``; empty for None."""
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
    """The same as an object of JSON, without what there is none of."""
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
