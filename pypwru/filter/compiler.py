"""pcap-filter text to the two programs that are spliced into a handler.

expression -> libpcap -> classic BPF -> plan (passes.py) -> eBPF (codegen.py) -> splice (splice.py)
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.asm.cbpf import ClassicInstruction, ClassicProgram
from pypwru.errors import FilterError
from pypwru.filter.pcap import Linktype, compile_error, compile_pcap
from pypwru.filter.program import FilterProgram

_RETURN = 0x06


class Filter(NamedTuple):
    """An expression, compiled for an skb with and without its link layer header.

    An outgoing skb has no Ethernet header yet in the upper layers. There an expression about the
    link layer can't be decided, and its ``l3`` never matches.

    Args:
        expression: pcap-filter(7) text.
        l2: for packets that begin with an Ethernet header.
        l3: for packets that begin with an IP header.
    """

    expression: str
    l2: FilterProgram
    l3: FilterProgram

    @property
    def uses_len(self) -> bool:
        """Whether the handler must pass ``skb->len``."""
        return self.l2.uses_len or self.l3.uses_len

    @property
    def uses_tag(self) -> bool:
        """Whether the handler must pass the accelerated VLAN tag."""
        return self.l2.uses_tag

    def __str__(self) -> str:
        return f"Ethernet:\n{self.l2.program}\nIP:\n{self.l3.program}"


def compile_filter(expression: str) -> Filter:
    """Compile ``expression``, pcap-filter(7) text; a blank one matches every packet.

    Raises:
        FilterError: libpcap can't compile it for packets with an Ethernet header (the message
            quotes libpcap's), or the program needs data that an skb doesn't have.
    """
    if not expression.strip():
        return MATCH_ALL
    l2 = compile_view(expression, Linktype.ETHERNET, has_tag=True)
    try:
        l3 = compile_view(expression, Linktype.RAW_IP)
    except FilterError:
        l3 = FilterProgram(_return_constant(0, expression))
    return Filter(expression, l2, l3)


def compile_view(
    expression: str, linktype: Linktype, has_tag: bool = False, is_inner: bool = False
) -> FilterProgram:
    """Compile one view of ``expression``.

    Args:
        expression: pcap-filter(7) text.
        linktype: the header that the packets begin with.
        has_tag: the packet may have an accelerated VLAN tag, which the filter must see.
        is_inner: it is matched against the packet inside a tunnel.

    Raises:
        FilterError: libpcap can't compile it, or no packet can match.
    """
    view = FilterProgram(compile_pcap(expression, linktype), has_tag, is_inner)
    if view.plan.is_contradiction:
        raise compile_error(expression, "expression rejects all packets")
    return view


def _return_constant(value: int, source: str) -> ClassicProgram:
    return ClassicProgram((ClassicInstruction(_RETURN, 0, 0, value),), source)


MATCH_ALL = Filter(
    "", FilterProgram(_return_constant(1, ""), has_tag=True), FilterProgram(_return_constant(1, ""))
)
