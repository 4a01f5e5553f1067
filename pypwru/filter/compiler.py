"""pcap-filter text to the two filters that are spliced into a handler.

expression -> libpcap -> classic BPF -> plan (plan.py) -> eBPF (emit.py) -> splice (inject.py)
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.errors import FilterError
from pypwru.filter.cbpf import ClassicInstruction, ClassicProgram
from pypwru.filter.pcap import Linktype, compile_pcap, refusal
from pypwru.filter.translation import Translation

_RETURN = 0x06


class Filter(NamedTuple):
    """An expression, compiled for an skb with and without its link layer header.

    Without one (on the way down, before the Ethernet header is there) an expression about the link
    layer can't be decided: ``l3`` of it never matches.
    """

    expression: str
    l2: Translation
    l3: Translation

    @property
    def uses_len(self) -> bool:
        """Whether the handler must give ``skb->len``."""
        return self.l2.uses_len or self.l3.uses_len

    @property
    def uses_tag(self) -> bool:
        """Whether the handler must give the accelerated VLAN tag."""
        return self.l2.uses_tag

    def __str__(self) -> str:
        return f"Ethernet:\n{self.l2.program}\nIP:\n{self.l3.program}"


def compile_filter(expression: str) -> Filter:
    """Compile ``expression``, pcap-filter(7) text; all blanks match every packet.

    Raises:
        FilterError: libpcap can't compile it for packets with an Ethernet header, in its own words;
            or what it made can't be decided on an skb.
    """
    if not expression.strip():
        return EMPTY
    l2 = translate(expression, Linktype.ETHERNET, has_tag=True)
    try:
        l3 = translate(expression, Linktype.RAW_IP)
    except FilterError:
        l3 = Translation(_answer(0, expression))
    return Filter(expression, l2, l3)


def translate(
    expression: str, linktype: Linktype, has_tag: bool = False, is_inner: bool = False
) -> Translation:
    """One view of ``expression``, for packets that begin as ``linktype`` says.

    Raises:
        FilterError: libpcap can't compile it, or its conditions exclude each other.
    """
    view = Translation(compile_pcap(expression, linktype), has_tag, is_inner)
    if view.plan.is_contradiction:
        raise refusal(expression, "expression rejects all packets")
    return view


def _answer(value: int, source: str) -> ClassicProgram:
    return ClassicProgram((ClassicInstruction(_RETURN, 0, 0, value),), source)


EMPTY = Filter("", Translation(_answer(1, ""), has_tag=True), Translation(_answer(1, "")))
