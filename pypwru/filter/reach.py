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

from pypwru.filter import ebpf, ranges
from pypwru.filter.reads import MOST, Reach
from pypwru.filter.terms import LOAD, PACKET
from pypwru.filter.values import Values, states_at_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.filter.blocks import Flow
    from pypwru.filter.values import State

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_TCP_HEADER = 20
_L4_HEADER = 8  # of UDP and ICMP, and the ports of the others
_PROTO_TCP = ranges.single(6)
_ETH_P_IPV6 = ranges.single(0x86DD)
_HEADER_LENGTH = 15  # the bits of a byte that are an IPv4 header's length


def find_reach(flow: Flow, network: int) -> Reach:
    """Return how far ``flow`` reads.

    Args:
        flow: the program.
        network: offset of the network header in the packet: 14, or 0 without an Ethernet header.
    """
    values = Values(flow)
    end, beyond = 0, False
    for state, base, load_end in _loads(flow, values):
        most = load_end if base == PACKET else values.most(base) + load_end
        end = max(end, most)
        beyond |= not _is_header(values, state, base, load_end, network)
    return Reach(min(end, MOST), beyond)


def _loads(flow: Flow, values: Values) -> Iterator[tuple[State, int, int]]:
    """Yield (state, base, end relative to the base) of each packet load."""
    for start, state in states_at_entries(flow, values).items():
        for instruction in flow.blocks[start].instructions:
            if instruction.form.size:
                base, offset = values.address(state, instruction)
                yield state, base, offset + instruction.form.size
            values.run(state, instruction)


def _is_header(values: Values, state: State, base: int, end: int, network: int) -> bool:
    is_tcp = any(
        known == _PROTO_TCP and values.terms[value][0] == LOAD + 1
        for value, known in state.facts.items()
    )
    l4 = _TCP_HEADER if is_tcp else _L4_HEADER
    if base != PACKET:
        ip = _header_that_ends_at(values, base)
        return ip is not None and end <= ip + l4
    if end <= network + _IPV4_HEADER + l4:
        return True
    ip6 = _ipv6_header(values, state)
    return ip6 is not None and end <= ip6 + _IPV6_HEADER + l4


def _header_that_ends_at(values: Values, value: int) -> int | None:
    """Return the offset of the IPv4 header of which ``value`` is the length, or None."""
    operation, low, _ = values.terms[value]
    mask = values.terms[low] if operation == ebpf.LSH else (0, 0, 0)
    if mask[0] != ebpf.AND or values.constant_of(mask[2]) != _HEADER_LENGTH:
        return None
    load = values.load_of(low)
    return load[0] if load else None


def _ipv6_header(values: Values, state: State) -> int | None:
    """Return the offset of an IPv6 header if ``state`` implies one, or None.

    It follows an EtherType of IPv6, or begins the packet if the version nibble is 6.
    """
    for value, known in state.facts.items():
        load = values.load_of(value)
        if load and load[1] == 2 and known == _ETH_P_IPV6:
            return load[0] + 2
        if load == (0, 1) and known == ranges.single(0x60):
            return 0
    return None
