"""Passes 2 and 6: accelerated VLAN tags.

The kernel keeps the outermost VLAN tag in ``skb->vlan_tci``, not in the packet: skb_vlan_untag() or
the network card moves it there. An expression that doesn't look for a tag must match such a packet
as if it had none; one that does must see the frame as it was on the wire: the MAC addresses, the
tag, the rest. So the frame is presented with its tag only to a filter that compares the EtherType
(bytes 12 and 13) with a TPID, as ``vlan``, ``ether proto 0x8100`` and
``ether[12:4] & 0xffff0fff = 0x81000064`` do. This is decided by the program as libpcap wrote it:
later passes remove what is impossible on the wire, and ``icmp and not vlan`` looks for a tag too.

Establishes: whether the filter is *tag aware*, and a header window in which a tagged frame can be
built. It begins at byte 0 or at the tag, and ends so far behind the tag that any indirect window
that extends beyond it begins behind the tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm.cbpf import ClassicInstruction, InstructionKind
from pypwru.filter.packet_loads import PacketLoads, Window, round_up

if TYPE_CHECKING:  # not imported at run time, since a run without a filter doesn't need them
    from pypwru.filter.cfg import CFG, Block
    from pypwru.filter.values import Condition, ValueNumbering

ETHERNET_HEADER = 14
TAG_OFFSET = 12
TAG_SIZE = 4
TPIDS = frozenset((0x8100, 0x88A8, 0x9100))
"""802.1Q, 802.1ad, and the older QinQ value: the TPIDs that libpcap's ``vlan`` tests for."""

_TYPE_END = TAG_OFFSET + 2


def find_tag_test(cfg: CFG) -> int | None:
    """Return the first block that compares bytes 12 and 13 of an Ethernet frame with a TPID.

    Args:
        cfg: not optimized across blocks yet, so each comparison is within one block.

    Returns:
        Its name, or None.
    """
    from pypwru.filter.values import ValueNumbering

    values = ValueNumbering(cfg)
    for start, block in cfg.blocks.items():
        *code, last = block.instructions
        if last.kind is InstructionKind.BRANCH:
            state = values.unknown_state(start)
            for instruction in code:
                values.apply(state, instruction)
            if _compares_tpid(values, values.branch_condition(state, last)):
                return start
    return None


def shift_loads_behind_tag(cfg: CFG, tag_test: int) -> CFG:
    """Return ``cfg`` with the loads of blocks before ``tag_test`` shifted behind a tag.

    This is for ``icmp and vlan 10``: libpcap tests for ICMP where the tag is, which never matches
    on the wire. A live capture of tcpdump does match frames with an accelerated tag, and there is
    no other useful meaning.
    """
    blocks = {
        start: block
        if start >= tag_test
        else block._replace(instructions=_shift_block_loads(block))
        for start, block in cfg.blocks.items()
    }
    return cfg._replace(blocks=blocks)


def _shift_block_loads(block: Block) -> tuple[ClassicInstruction, ...]:
    return tuple(
        instruction._replace(k=instruction.k + TAG_SIZE)
        if instruction.opcode.size and instruction.k >= TAG_OFFSET
        else instruction
        for instruction in block.instructions
    )


def _compares_tpid(values: ValueNumbering, condition: Condition) -> bool:
    load = values.load_of(condition.value)
    number = condition.number
    if load is None or number is None:
        return False
    offset, size = load
    trailing = offset + size - _TYPE_END
    return offset <= TAG_OFFSET and trailing >= 0 and number >> 8 * trailing & 0xFFFF in TPIDS


def extend_window_for_tag(loads: PacketLoads) -> PacketLoads:
    """Return ``loads`` with the header window extended for a tag."""
    window = loads.header_window or Window(TAG_OFFSET, TAG_OFFSET)
    starts_at_tag = window.low >= TAG_OFFSET and not loads.indirect_windows
    low = TAG_OFFSET if starts_at_tag else 0
    behind_tag = (
        TAG_OFFSET
        + TAG_SIZE
        + max((indirect.size for indirect in loads.indirect_windows), default=0)
    )
    high = max(window.high, behind_tag)
    return loads._replace(header_window=Window(low, low + round_up(high - low)))
