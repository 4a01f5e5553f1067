"""Which way a packet goes, and how it was addressed: the word epb_flags of pcapng.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html, section 4.3.1.
"""

from __future__ import annotations

from functools import cache

from pypwru.discovery.tables import rows

INBOUND, OUTBOUND = 1, 2
_DIRECTIONS = {"in": INBOUND, "out": OUTBOUND}
_RECEPTION_SHIFT = 2

# PACKET_* of linux/if_packet.h
HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING = range(5)
# unicast, broadcast, multicast, promiscuous
_RECEPTIONS = {HOST: 1, BROADCAST: 3, MULTICAST: 2, OTHERHOST: 4}


@cache
def _directions() -> dict[str, int]:
    return {
        name: _DIRECTIONS[row.key]
        for row in rows("directions")
        for word in row.words
        for name in word.split("/")
    }


def epb_flags(function: str, packet_type: int) -> int:
    """Direction and reception type; 0 in either is: not known.

    Args:
        function: or raw tracepoint that saw the packet, without its module.
        packet_type: skb->pkt_type. PACKET_HOST is also what a packet has that never came in.
    """
    direction = _directions().get(function, OUTBOUND if packet_type == OUTGOING else 0)
    if packet_type == HOST and direction != INBOUND:
        return direction
    return direction | _RECEPTIONS.get(packet_type, 0) << _RECEPTION_SHIFT
