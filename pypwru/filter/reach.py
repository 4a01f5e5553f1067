"""Pass 7: how far into a packet the filter reads.

Headers are nearly always in the linear area of an sk_buff: drivers copy them there, and the stack
pulls them (pskb_may_pull) before it reads them. Payload may be anywhere: TCP sends from page
fragments, and drivers receive into them.

Establishes: an upper bound of the bytes that any load can read, and whether all loads certainly
read headers only. If that is not certain, the filter is treated as one that reads payload: the
program is longer, but its result is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.filter import ranges
from pypwru.filter.packet_loads import MAX_REACH, Reach
from pypwru.filter.terms import LOAD, PACKET
from pypwru.filter.values import ValueNumbering, entry_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.filter.cfg import CFG
    from pypwru.filter.values import State

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_TCP_HEADER = 20
_L4_HEADER = 8  # of UDP and ICMP, and the ports of the others
_PROTO_TCP = ranges.single(6)
_ETH_P_IPV6 = ranges.single(0x86DD)
_IHL_MASK = 15  # the bits of a byte that are an IPv4 header's length


def find_reach(cfg: CFG, network_offset: int) -> Reach:
    """Return how far ``cfg`` reads.

    Args:
        cfg: the program.
        network_offset: offset of the network header in the packet: 14, or 0 without an Ethernet
            header.
    """
    values = ValueNumbering(cfg)
    end, may_read_payload = 0, False
    for state, base, load_end in _packet_loads(cfg, values):
        load_bound = load_end if base == PACKET else values.upper_bound(base) + load_end
        end = max(end, load_bound)
        may_read_payload |= not _reads_header_only(values, state, base, load_end, network_offset)
    return Reach(min(end, MAX_REACH), may_read_payload)


def _packet_loads(cfg: CFG, values: ValueNumbering) -> Iterator[tuple[State, int, int]]:
    """Yield (state, base, end relative to the base) of each packet load."""
    for start, state in entry_states(cfg, values).items():
        for instruction in cfg.blocks[start].instructions:
            if instruction.opcode.size:
                base, offset = values.load_address(state, instruction)
                yield state, base, offset + instruction.opcode.size
            values.apply(state, instruction)


def _reads_header_only(
    values: ValueNumbering, state: State, base: int, end: int, network_offset: int
) -> bool:
    is_tcp = any(
        numbers == _PROTO_TCP and values.terms[value][0] == LOAD + 1
        for value, numbers in state.facts.items()
    )
    l4 = _TCP_HEADER if is_tcp else _L4_HEADER
    if base != PACKET:
        ip = _ipv4_header_of_length(values, base)
        return ip is not None and end <= ip + l4
    if end <= network_offset + _IPV4_HEADER + l4:
        return True
    ip6 = _ipv6_header_offset(values, state)
    return ip6 is not None and end <= ip6 + _IPV6_HEADER + l4


def _ipv4_header_of_length(values: ValueNumbering, value: int) -> int | None:
    """Return the offset of the IPv4 header of which ``value`` is the length, or None."""
    operation, low, _ = values.terms[value]
    mask = values.terms[low] if operation == ebpf.LSH else (0, 0, 0)
    if mask[0] != ebpf.AND or values.constant_of(mask[2]) != _IHL_MASK:
        return None
    load = values.load_of(low)
    return load[0] if load else None


def _ipv6_header_offset(values: ValueNumbering, state: State) -> int | None:
    """Return the offset of an IPv6 header if ``state`` implies one, or None.

    It follows an EtherType of IPv6, or begins the packet if the version nibble is 6.
    """
    for value, numbers in state.facts.items():
        load = values.load_of(value)
        if load and load[1] == 2 and numbers == _ETH_P_IPV6:
            return load[0] + 2
        if load == (0, 1) and numbers == ranges.single(0x60):
            return 0
    return None
