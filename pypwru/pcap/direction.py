"""Direction and reception type of a packet: epb_flags of pcapng.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-06.html, section 4.3.1. Directions of
functions are listed in data/directions.txt.
"""

from __future__ import annotations

from functools import cache

from pypwru.discovery.function_tables import load_table

INBOUND, OUTBOUND = 1, 2
_DIRECTIONS = {"in": INBOUND, "out": OUTBOUND}
_RECEPTION_SHIFT = 2

# PACKET_* of linux/if_packet.h
HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING = range(5)
# unicast, broadcast, multicast, promiscuous
_RECEPTIONS = {HOST: 1, BROADCAST: 3, MULTICAST: 2, OTHERHOST: 4}


@cache
def _direction_by_function() -> dict[str, int]:
    return {
        name: _DIRECTIONS[row.key]
        for row in load_table("directions")
        for word in row.names
        for name in word.split("/")
    }


def epb_flags(function: str, packet_type: int) -> int:
    """Return epb_flags with direction and reception type; 0 in either field: unknown.

    Args:
        function: name of the function or raw tracepoint (``tp:``) of the event, without module.
        packet_type: skb->pkt_type. PACKET_HOST is 0, hence also the type of a packet that was never
            received: it counts only with a direction of inbound.
    """
    direction = _direction_by_function().get(function, OUTBOUND if packet_type == OUTGOING else 0)
    if packet_type == HOST and direction != INBOUND:
        return direction
    return direction | _RECEPTIONS.get(packet_type, 0) << _RECEPTION_SHIFT
