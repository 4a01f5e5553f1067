"""All that a run asks of a packet, compiled: what goes into the handlers when they are loaded.

The pcap filters, the inner ones of tunnels, the C expressions, and the numbers that a packet's
place and mark are compared with. Which of these there are decides what is compiled (``switches``);
what they say does not, so one compile serves every expression and every namespace.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.filter.compiler import EMPTY, Filter, translate
from pypwru.filter.inject import MARKERS, Body
from pypwru.filter.pcap import Linktype
from pypwru.filter.reads import MOST

if TYPE_CHECKING:  # what a run without expressions need not load
    from collections.abc import Mapping

    from pypwru.btf.query import BTF
    from pypwru.config import Config
    from pypwru.expression import Expression, Members
    from pypwru.filter.translation import Translation
    from pypwru.kernel.place import Place


_OUTER_HEADERS = 512
"""Bytes: more than those of a tunnel are, with options, extensions and tags."""


class Inner(NamedTuple):
    """What is asked of the packet inside a tunnel; None for nothing."""

    l2: Translation | None
    l3: Translation | None


class Wanted(NamedTuple):
    """What a packet must be, and which of its members are printed.

    Args:
        packet: the pcap filter.
        inner: those of the packet inside a tunnel.
        place: namespace and interface.
        config: for the mark.
        skb_expr, xdp_expr: None where there is none.
        skb_members, xdp_members: likewise.
    """

    packet: Filter
    inner: Inner
    place: Place
    config: Config
    skb_expr: Expression | None
    xdp_expr: Expression | None
    skb_members: Members | None
    xdp_members: Members | None

    def bodies(self) -> dict[int, Body]:
        """Marker -> what is spliced in its place."""
        named: Mapping[str, Body | None] = {
            "L2": self.packet.l2,
            "L3": self.packet.l3,
            "TUNNEL_L2": self.inner.l2,
            "TUNNEL_L3": self.inner.l3,
            "SKB_EXPR": self.skb_expr,
            "XDP_EXPR": self.xdp_expr,
            "SKB_MEMBERS": self.skb_members,
            "XDP_MEMBERS": self.xdp_members,
        }
        return {MARKERS[name]: body for name, body in named.items() if body is not None}

    @property
    def needs_fragments(self) -> bool:
        """Whether a filter may ask for bytes that are in fragments."""
        return self.inner != Inner(None, None) or any(
            view.needs_fragments for view in (self.packet.l2, self.packet.l3)
        )

    def _reach(self) -> int:
        """How many bytes of a packet are copied from fragments."""
        ends = [view.plan.reach.end for view in (self.packet.l2, self.packet.l3)]
        ends += [_OUTER_HEADERS + view.plan.reach.end for view in self.inner if view is not None]
        return min(max(ends), MOST)

    def switches(self) -> dict[str, bool]:
        """Macro -> whether the C has it."""
        return {
            "FILTER": self.packet is not EMPTY,
            "FILTER_USES_LEN": self.packet.uses_len,
            "FILTER_USES_TAG": self.packet.uses_tag,
            # What can be said of an IP packet alone sees through tags inside the frame.
            "FILTER_TAGGED_FRAMES": self.packet.uses_tag or self.packet.l3.constant is False,
            "FILTER_FRAGMENTS": self.needs_fragments,
            "FILTER_TUNNEL_L2": self.inner.l2 is not None,
            "FILTER_TUNNEL_L3": self.inner.l3 is not None,
            "FILTER_NETNS": bool(self.place.netns),
            "FILTER_IFNAME": bool(self.place.ifname),
            "FILTER_MARK": bool(self.config.filter_mark.mask),
            "FILTER_SKB_EXPR": self.skb_expr is not None,
            "FILTER_XDP_EXPR": self.xdp_expr is not None,
            "OUTPUT_SKB_METADATA": self.skb_members is not None,
            "OUTPUT_XDP_METADATA": self.xdp_members is not None,
        }

    def constants(self) -> dict[str, int]:
        """Name of program/constants.py -> value."""
        mark = self.config.filter_mark
        ifname = os.fsencode(self.place.ifname)
        return {
            "WANTED_NETNS": self.place.netns,
            "WANTED_IFNAME": int.from_bytes(ifname[:8], "little"),
            "WANTED_IFNAME_END": int.from_bytes(ifname[8:], "little"),
            "WANTED_MARK": mark.value,
            "WANTED_MASK": mark.mask,
            "REACH": self._reach(),
        }


def compile_inner(config: Config) -> Inner:
    """Compile the filters of what is inside tunnels.

    Raises:
        FilterError: libpcap can't compile one; it says which flag.
    """
    return Inner(
        _inner("--filter-tunnel-pcap-l2", config.filter_tunnel_pcap_l2, Linktype.ETHERNET),
        _inner("--filter-tunnel-pcap-l3", config.filter_tunnel_pcap_l3, Linktype.RAW_IP),
    )


def _inner(flag: str, text: str, linktype: Linktype) -> Translation | None:
    if not text.strip():
        return None
    try:
        return translate(text, linktype, is_inner=True)
    except FilterError as error:
        raise FilterError(f"{flag}: {error}") from error


def compile_wanted(config: Config, packet: Filter, inner: Inner, place: Place, btf: BTF) -> Wanted:
    """All of it together, with what needs the kernel's types.

    Raises:
        FilterError: an expression is wrong.
    """

    def expression(text: str, root: str) -> Expression | None:
        if not text.strip():
            return None
        from pypwru.expression import compile_filter_expression

        return compile_filter_expression(text, root, btf)

    def members(texts: tuple[str, ...], root: str) -> Members | None:
        wanted = [text for text in texts if text]
        if not wanted:
            return None
        from pypwru.expression import compile_members

        return compile_members(wanted, root, btf)

    return Wanted(
        packet,
        inner,
        place,
        config,
        expression(config.filter_skb_expr, "skb"),
        expression(config.filter_xdp_expr, "xdp"),
        members(config.output_skb_metadata, "skb"),
        members(config.output_xdp_metadata, "xdp"),
    )
