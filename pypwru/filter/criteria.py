"""The compiled match criteria of a run, which are put into the handlers when they are loaded.

These are the pcap filters, those for the packet inside a tunnel, the C expressions, and the network
namespace, interface and mark to compare with. Which criteria there are decides which C code is
compiled (``macros``), their contents do not: they are spliced in or set as constants. So the
compiled object can be cached for all expressions and namespaces.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.filter.compiler import MATCH_ALL, Filter, compile_view
from pypwru.filter.packet_loads import MAX_REACH
from pypwru.filter.pcap import Linktype
from pypwru.filter.splice import MARKERS, Body

if TYPE_CHECKING:  # not imported at run time, since a run without expressions doesn't need them
    from collections.abc import Mapping

    from pypwru.btf.query import BTF
    from pypwru.config import MarkFilter
    from pypwru.expr import Expression, MetadataMembers
    from pypwru.filter.program import FilterProgram
    from pypwru.kernel.netns_filter import NetnsFilter


_OUTER_HEADERS = 512
"""Upper bound of a tunnel's outer headers in bytes, with options, extension headers and tags."""


class InnerFilters(NamedTuple):
    """The filters for the packet inside a tunnel; None for no filter.

    Args:
        l2: for an inner packet that begins with an Ethernet header.
        l3: for one that begins with an IP header.
    """

    l2: FilterProgram | None
    l3: FilterProgram | None


class ExpressionTexts(NamedTuple):
    """C expressions and members to print, as typed.

    Args:
        skb_expr, xdp_expr: expressions over ``struct sk_buff`` and ``struct xdp_buff``; empty
            matches every packet.
        skb_members, xdp_members: members to print, such as ``skb->mark``.
    """

    skb_expr: str
    xdp_expr: str
    skb_members: tuple[str, ...]
    xdp_members: tuple[str, ...]


class Criteria(NamedTuple):
    """The criteria that a packet must match, and the members to print of it.

    Args:
        packet_filter: the pcap filter.
        inner_filters: the filters for the packet inside a tunnel.
        netns_ifname: the network namespace and interface.
        mark: the criterion on skb->mark.
        skb_expr, xdp_expr: C expressions over ``struct sk_buff`` and ``struct xdp_buff``, or None.
        skb_members, xdp_members: the members to print, or None.
    """

    packet_filter: Filter
    inner_filters: InnerFilters
    netns_ifname: NetnsFilter
    mark: MarkFilter
    skb_expr: Expression | None
    xdp_expr: Expression | None
    skb_members: MetadataMembers | None
    xdp_members: MetadataMembers | None

    def bodies_by_marker(self) -> dict[int, Body]:
        """Return marker -> what replaces its calls."""
        named: Mapping[str, Body | None] = {
            "L2": self.packet_filter.l2,
            "L3": self.packet_filter.l3,
            "TUNNEL_L2": self.inner_filters.l2,
            "TUNNEL_L3": self.inner_filters.l3,
            "SKB_EXPR": self.skb_expr,
            "XDP_EXPR": self.xdp_expr,
            "SKB_MEMBERS": self.skb_members,
            "XDP_MEMBERS": self.xdp_members,
        }
        return {MARKERS[name]: body for name, body in named.items() if body is not None}

    @property
    def needs_fragments(self) -> bool:
        """Whether a filter may read bytes that are in fragments."""
        return self.inner_filters != InnerFilters(None, None) or any(
            view.needs_fragments for view in (self.packet_filter.l2, self.packet_filter.l3)
        )

    def _max_reach(self) -> int:
        """Return how many bytes from a packet's start are copied for filters, with fragments."""
        ends = [view.plan.reach.end for view in (self.packet_filter.l2, self.packet_filter.l3)]
        ends += [
            _OUTER_HEADERS + view.plan.reach.end for view in self.inner_filters if view is not None
        ]
        return min(max(ends), MAX_REACH)

    def macros(self) -> dict[str, bool]:
        """Return name of a C macro -> whether the code that it enables is needed."""
        return {
            "FILTER": self.packet_filter is not MATCH_ALL,
            "FILTER_USES_LEN": self.packet_filter.uses_len,
            "FILTER_USES_TAG": self.packet_filter.uses_tag,
            # A filter that can be decided on the IP packet alone ignores tags inside the frame.
            "FILTER_TAGGED_FRAMES": self.packet_filter.uses_tag
            or self.packet_filter.l3.constant_result is False,
            "FILTER_FRAGMENTS": self.needs_fragments,
            "FILTER_TUNNEL_L2": self.inner_filters.l2 is not None,
            "FILTER_TUNNEL_L3": self.inner_filters.l3 is not None,
            "FILTER_NETNS": bool(self.netns_ifname.netns),
            "FILTER_IFNAME": bool(self.netns_ifname.ifname),
            "FILTER_MARK": bool(self.mark.mask),
            "FILTER_SKB_EXPR": self.skb_expr is not None,
            "FILTER_XDP_EXPR": self.xdp_expr is not None,
            "OUTPUT_SKB_METADATA": self.skb_members is not None,
            "OUTPUT_XDP_METADATA": self.xdp_members is not None,
        }

    def load_time_constants(self) -> dict[str, int]:
        """Return name of a load-time constant (program/load_time.py) -> value.

        The interface name's 16 bytes are two u64, little endian; the namespace is its inode.
        """
        ifname = os.fsencode(self.netns_ifname.ifname)
        return {
            "MATCH_NETNS": self.netns_ifname.netns,
            "MATCH_IFNAME": int.from_bytes(ifname[:8], "little"),
            "MATCH_IFNAME_END": int.from_bytes(ifname[8:], "little"),
            "MATCH_MARK": self.mark.value,
            "MATCH_MARK_MASK": self.mark.mask,
            "FILTER_REACH": self._max_reach(),
        }


def compile_inner_filters(l2: str, l3: str) -> InnerFilters:
    """Compile the filters for packets inside tunnels.

    Args:
        l2: --filter-tunnel-pcap-l2, from the inner Ethernet header; empty for no filter.
        l3: --filter-tunnel-pcap-l3, from the inner IP header; empty for no filter.

    Raises:
        FilterError: libpcap can't compile one; the message names the flag.
    """
    return InnerFilters(
        _compile_inner_filter("--filter-tunnel-pcap-l2", l2, Linktype.ETHERNET),
        _compile_inner_filter("--filter-tunnel-pcap-l3", l3, Linktype.RAW_IP),
    )


def _compile_inner_filter(flag: str, text: str, linktype: Linktype) -> FilterProgram | None:
    if not text.strip():
        return None
    try:
        return compile_view(text, linktype, is_inner=True)
    except FilterError as error:
        raise FilterError(f"{flag}: {error.cause}", error.cure) from error


def compile_criteria(
    packet_filter: Filter,
    inner_filters: InnerFilters,
    netns_ifname: NetnsFilter,
    mark: MarkFilter,
    texts: ExpressionTexts,
    btf: BTF,
) -> Criteria:
    """Compile the expressions and members, and return them with the other criteria.

    Args:
        packet_filter: the compiled pcap filter.
        inner_filters: the compiled filters for packets inside tunnels.
        netns_ifname: the network namespace and interface.
        mark: the criterion on skb->mark.
        texts: the expressions and members, as typed.
        btf: the kernel's types.

    Raises:
        FilterError: an expression or member is invalid.
        BTFError: a struct is not in ``btf``.
    """

    def expression(text: str, root: str) -> Expression | None:
        if not text.strip():
            return None
        from pypwru.expr import compile_filter_expression

        return compile_filter_expression(text, root, btf)

    def members(texts: tuple[str, ...], root: str) -> MetadataMembers | None:
        given = [text for text in texts if text]
        if not given:
            return None
        from pypwru.expr import compile_members

        return compile_members(given, root, btf)

    return Criteria(
        packet_filter,
        inner_filters,
        netns_ifname,
        mark,
        expression(texts.skb_expr, "skb"),
        expression(texts.xdp_expr, "xdp"),
        members(texts.skb_members, "skb"),
        members(texts.xdp_members, "xdp"),
    )
