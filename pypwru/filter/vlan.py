"""Pass 6: accelerated VLAN tags.

The kernel keeps the outermost VLAN tag in ``skb->vlan_tci``, not in the packet (skb_vlan_untag,
or the card itself). An expression that never looks for a tag must match such a packet as if it had
none; one that does look must see the frame as it was on the wire: the two MAC addresses, the tag,
the rest. So the frame is presented with its tag only to a filter that compares the Ethernet type
(bytes 12 and 13) with a TPID. That is read from the program, not from the text: ``vlan``,
``ether proto 0x8100`` and ``ether[12:4] & 0xffff0fff = 0x81000064`` all do.

Establishes: whether the filter is *tag aware*, and a window in which a tagged frame can be built:
it begins at byte 0 or at the tag, and ends so far behind the tag that no strip that reaches out of
it begins before or within the tag.
"""

from __future__ import annotations

from pypwru.filter.blocks import Block, Flow, predecessors
from pypwru.filter.cbpf import ClassicInstruction, Kind
from pypwru.filter.ebpf import AND, JEQ
from pypwru.filter.reads import Reads, Span, rounded

TAG_OFFSET = 12
TAG_SIZE = 4
TPIDS = frozenset((0x8100, 0x88A8, 0x9100))
"""802.1Q, 802.1ad, and the QinQ of before: those that libpcap's ``vlan`` knows."""

_UNKNOWN = 0


def inspects_tag(flow: Flow) -> bool:
    """Whether some path compares bytes 12 and 13 of an Ethernet frame with a TPID."""
    before = predecessors(flow.blocks)
    leaving: dict[int, int] = {}
    changed = True
    while changed:
        changed = False
        for start, block in flow.blocks.items():
            known = {leaving[p] for p in before[start] if p in leaving}
            known |= {_UNKNOWN} if start == flow.entry else set()
            width = known.pop() if len(known) == 1 else _UNKNOWN
            after = _type_width(block, width)
            if after in TPIDS:
                return True
            changed |= leaving.get(start) != after
            leaving[start] = after
    return False


def _type_width(block: Block, width: int) -> int:
    """How many bytes from 12 on A holds when the block ends: 2, 4, or _UNKNOWN for anything else.

    The TPID itself if the block compares them with one.
    """
    for instruction in block.instructions:
        if instruction.kind is Kind.BRANCH and instruction.operation == JEQ and width:
            compared = instruction.k >> (width - 2) * 8
            if not instruction.uses_x and compared in TPIDS:
                return compared
        elif "A" in instruction.form.writes and not (width and _is_mask(instruction)):
            is_type = instruction.kind is Kind.LOAD_ABSOLUTE and instruction.k == TAG_OFFSET
            width = instruction.form.size if is_type and instruction.form.size > 1 else _UNKNOWN
    return width


def _is_mask(instruction: ClassicInstruction) -> bool:
    return instruction.kind is Kind.ALU and instruction.operation == AND and not instruction.uses_x


def make_room(reads: Reads) -> Reads:
    """``reads`` with a window that a tag fits into."""
    window = reads.window or Span(TAG_OFFSET, TAG_OFFSET)
    starts_at_tag = window.low >= TAG_OFFSET and not reads.strips
    low = TAG_OFFSET if starts_at_tag else 0
    behind_tag = TAG_OFFSET + TAG_SIZE + max((strip.size for strip in reads.strips), default=0)
    high = max(window.high, behind_tag)
    return reads._replace(window=Span(low, low + rounded(high - low)))
