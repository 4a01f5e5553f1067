"""The compiled match criteria of a run, which are put into the handlers when they are loaded.

These are the pcap filters, those for the packet inside a tunnel, the C expressions, and the network
namespace, interface and mark to compare with. Which criteria there are decides which C code is
compiled (``switches``), their contents do not: they are spliced in or set as constants. So the
compiled object can be cached for all expressions and namespaces.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.filter.compiler import EMPTY, Filter, translate
from pypwru.filter.inject import MARKERS, Body
from pypwru.filter.pcap import Linktype
from pypwru.filter.reads import MOST

if TYPE_CHECKING:  # not imported at run time, since a run without expressions doesn't need them
    from collections.abc import Mapping

    from pypwru.btf.query import BTF
    from pypwru.config import Config
    from pypwru.expression import Expression, Members
    from pypwru.filter.translation import Translation
    from pypwru.kernel.place import Place


_OUTER_HEADERS = 512
"""Upper bound of a tunnel's outer headers in bytes, with options, extension headers and tags."""


class Inner(NamedTuple):
    """The filters for the packet inside a tunnel; None for no filter.

    Args:
        l2: for an inner packet that begins with an Ethernet header.
        l3: for one that begins with an IP header.
    """

    l2: Translation | None
    l3: Translation | None


class Wanted(NamedTuple):
    """The criteria that a packet must match, and the members to print of it.

    Args:
        packet: the pcap filter.
        inner: the filters for the packet inside a tunnel.
        place: the network namespace and interface.
        config: for the mark.
        skb_expr, xdp_expr: C expressions over ``struct sk_buff`` and ``struct xdp_buff``, or None.
        skb_members, xdp_members: the members to print, or None.
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
        """Return marker -> what replaces its calls."""
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
        """Whether a filter may read bytes that are in fragments."""
        return self.inner != Inner(None, None) or any(
            view.needs_fragments for view in (self.packet.l2, self.packet.l3)
        )

    def _reach(self) -> int:
        """Return how many bytes from a packet's start are copied for filters, with fragments."""
        ends = [view.plan.reach.end for view in (self.packet.l2, self.packet.l3)]
        ends += [_OUTER_HEADERS + view.plan.reach.end for view in self.inner if view is not None]
        return min(max(ends), MOST)

    def switches(self) -> dict[str, bool]:
        """Return name of a C macro -> whether the code that it enables is needed."""
        return {
            "FILTER": self.packet is not EMPTY,
            "FILTER_USES_LEN": self.packet.uses_len,
            "FILTER_USES_TAG": self.packet.uses_tag,
            # A filter that can be decided on the IP packet alone ignores tags inside the frame.
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
        """Return name of a load-time constant (program/constants.py) -> value.

        The interface name's 16 bytes are two u64, little endian; the namespace is its inode.
        """
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
    """Compile the filters for packets inside tunnels.

    Raises:
        FilterError: libpcap can't compile one; the message names the flag.
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
    """Compile the expressions and members, and return them with the other criteria.

    Args:
        config: the options.
        packet: the compiled pcap filter.
        inner: the compiled filters for packets inside tunnels.
        place: the network namespace and interface.
        btf: the kernel's types.

    Raises:
        FilterError: an expression or member is invalid.
        BTFError: a struct is not in ``btf``.
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
