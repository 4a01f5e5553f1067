"""Passes 2 and 6: accelerated VLAN tags.

The kernel keeps the outermost VLAN tag in ``skb->vlan_tci``, not in the packet (skb_vlan_untag,
or the card itself). An expression that never looks for a tag must match such a packet as if it had
none; one that does look must see the frame as it was on the wire: the two MAC addresses, the tag,
the rest. So the frame is presented with its tag only to a filter that compares the Ethernet type
(bytes 12 and 13) with a TPID: ``vlan``, ``ether proto 0x8100`` and
``ether[12:4] & 0xffff0fff = 0x81000064`` all do. That is read from the program as it was written,
before any pass takes out what can't happen on the wire: ``icmp and not vlan`` looks for a tag.

Establishes: whether the filter is *tag aware*, and a window in which a tagged frame can be built:
it begins at byte 0 or at the tag, and ends so far behind the tag that no strip that reaches out of
it begins before or within the tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.filter.cbpf import ClassicInstruction, Kind
from pypwru.filter.reads import Reads, Span, rounded

if TYPE_CHECKING:  # what a run without a filter need not load
    from pypwru.filter.blocks import Block, Flow
    from pypwru.filter.values import Condition, Values

ETHERNET_HEADER = 14
TAG_OFFSET = 12
TAG_SIZE = 4
TPIDS = frozenset((0x8100, 0x88A8, 0x9100))
"""802.1Q, 802.1ad, and the QinQ of before: those that libpcap's ``vlan`` knows."""

_TYPE_END = TAG_OFFSET + 2


def find_tag_test(flow: Flow) -> int | None:
    """The first block that compares bytes 12 and 13 of an Ethernet frame with a TPID.

    Args:
        flow: as libpcap left it, so each block has all of a comparison.
    """
    from pypwru.filter.values import Values

    values = Values(flow)
    for start, block in flow.blocks.items():
        *code, last = block.instructions
        if last.kind is Kind.BRANCH:
            state = values.unknown(start)
            for instruction in code:
                values.run(state, instruction)
            if _is_about_tag(values, values.condition(state, last)):
                return start
    return None


def look_behind_tag(flow: Flow, tag_test: int) -> Flow:
    """``flow`` with all that it asks before it comes to ``tag_test`` asked behind a tag.

    For ``icmp and vlan 10``: libpcap looks for ICMP in the place of the tag, where it can't be. A
    live tcpdump finds it in frames whose tag is beside them, and nothing else can be meant.
    """
    blocks = {
        start: block if start >= tag_test else block._replace(instructions=_moved(block))
        for start, block in flow.blocks.items()
    }
    return flow._replace(blocks=blocks)


def _moved(block: Block) -> tuple[ClassicInstruction, ...]:
    return tuple(
        instruction._replace(k=instruction.k + TAG_SIZE)
        if instruction.form.size and instruction.k >= TAG_OFFSET
        else instruction
        for instruction in block.instructions
    )


def _is_about_tag(values: Values, condition: Condition) -> bool:
    load = values.load_of(condition.value)
    number = condition.number
    if load is None or number is None:
        return False
    offset, size = load
    behind = offset + size - _TYPE_END
    return offset <= TAG_OFFSET and behind >= 0 and number >> 8 * behind & 0xFFFF in TPIDS


def make_room(reads: Reads) -> Reads:
    """``reads`` with a window that a tag fits into."""
    window = reads.window or Span(TAG_OFFSET, TAG_OFFSET)
    starts_at_tag = window.low >= TAG_OFFSET and not reads.strips
    low = TAG_OFFSET if starts_at_tag else 0
    behind_tag = TAG_OFFSET + TAG_SIZE + max((strip.size for strip in reads.strips), default=0)
    high = max(window.high, behind_tag)
    return reads._replace(window=Span(low, low + rounded(high - low)))
