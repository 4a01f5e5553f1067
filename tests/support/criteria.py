"""The match criteria of a run, compiled without a session."""

from __future__ import annotations

from pypwru.btf.query import BTF
from pypwru.config import Config
from pypwru.filter.compiler import compile_filter
from pypwru.filter.criteria import (
    Criteria,
    ExpressionTexts,
    compile_criteria,
    compile_inner_filters,
)
from pypwru.kernel.netns_filter import NetnsFilter


def criteria_of(config: Config, netns_ifname: NetnsFilter, btf: BTF) -> Criteria:
    """Return the criteria of a run.

    Args:
        config: of the run.
        netns_ifname: what --filter-netns and --filter-ifname resolve to.
        btf: of vmlinux.
    """
    texts = ExpressionTexts(
        config.filter_skb_expr,
        config.filter_xdp_expr,
        config.output_skb_metadata,
        config.output_xdp_metadata,
    )
    inner = compile_inner_filters(config.filter_tunnel_pcap_l2, config.filter_tunnel_pcap_l3)
    packet_filter = compile_filter(config.pcap_filter)
    return compile_criteria(packet_filter, inner, netns_ifname, config.filter_mark, texts, btf)
