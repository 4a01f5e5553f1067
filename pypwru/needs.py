"""What a run needs of its handlers, maps, records and stages, as an immutable Needs.

A Config has the options of the user; Needs has what must be there for them, by mechanism. It is
computed once, of the options without what the kernel lacks (``phases/plan.py``). A mechanism has
one row here, and is a condition in the tables that use it: maps, macros, the parts of a record,
stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import EVERY, FIRST, LAST, NftOutput, Timestamp
from pypwru.kernel.netfilter import REJECT

if TYPE_CHECKING:
    from pypwru.config import Config

# Bytes of pwru's per-CPU buffer that hold the length of a dump; the text has the rest.
_TEXT_HEADER_SIZE = 4


class Needs(NamedTuple):
    """The mechanisms of a run. All but the sizes are whether the run has the mechanism.

    Args:
        tc_programs, xdp_programs: BPF programs of this type are traced.
        verdicts: nft events and verdicts are traced.
        rule_texts: the texts of nftables rules are read, for the output or for a filter.
        tracked_packets: a packet that matched is traced until it is freed, and so are its copies.
        tracked_stacks: functions are traced that are called while a matching packet is handled.
        page_fragments: filters read on in the page fragments of a packet.
        packet_ids: records carry a packet_id, which distinguishes packets at a reused address.
        free_events: handlers write a record when a packet is freed.
        drop_locations: records carry the call chain of a drop.
        packet_samples, flow_samples: only a sample of the matching packets, or flows, is traced.
        rate_limit, hit_limit: events per second are limited, in total or by function.
        drop_filter: the pipeline keeps packets that are dropped in the end.
        meta, netns, tuples: records carry namespace, mark, device, MTU and length; the namespace
            alone; addresses and ports.
        callers: records carry the caller of the function, or the call chain.
        control_block: records carry ``__sk_buff->cb[]``.
        tunnels: records carry the tuple of the packet inside a tunnel.
        members: records carry members of ``struct sk_buff`` or ``struct xdp_buff``.
        map_calls: records carry the arguments of functions on BPF maps.
        conntrack: records carry the conntrack entry of the packet.
        stacks: records carry the kernel stack.
        skb_text_size, shared_info_text_size: bytes for the text of this struct in a record; 0 if
            records don't carry it.
        packet_data: packet data is captured.
        snaplen: bytes that are captured of a packet at most.
        capture_every: packet data is captured at every event.
        first_flag: records have the flag of a packet's first event.
        capture_points: packet data is captured at events selected by function.
        symbols: addresses in the kernel's code are resolved: callers, stacks, drop locations.
        netns_names: names of network namespaces are read, for lines or for captures.
        run_counts: the kernel counts the runs of handlers.
    """

    tc_programs: bool
    xdp_programs: bool
    verdicts: bool
    rule_texts: bool
    tracked_packets: bool
    tracked_stacks: bool
    page_fragments: bool
    packet_ids: bool
    free_events: bool
    drop_locations: bool
    packet_samples: bool
    flow_samples: bool
    rate_limit: bool
    hit_limit: bool
    drop_filter: bool
    meta: bool
    netns: bool
    tuples: bool
    callers: bool
    control_block: bool
    tunnels: bool
    members: bool
    map_calls: bool
    conntrack: bool
    stacks: bool
    skb_text_size: int
    shared_info_text_size: int
    packet_data: bool
    snaplen: int
    capture_every: bool
    first_flag: bool
    capture_points: bool
    symbols: bool
    netns_names: bool
    run_counts: bool

    @classmethod
    def of(cls, config: Config, *, page_fragments: bool = False) -> Needs:
        """Return what a run needs.

        Args:
            config: of the run, without the features that this kernel lacks.
            page_fragments: whether its compiled filters read page fragments.
        """
        # Long, since it has a row for each mechanism.
        when, drop_locations = config.capture_when, _needs_drop_locations(config)
        text_size = config.set_percpu_buf - _TEXT_HEADER_SIZE
        return cls(
            tc_programs=config.filter_trace_tc,
            xdp_programs=config.filter_trace_xdp,
            verdicts=config.traces_nft,
            rule_texts=_needs_rule_texts(config),
            tracked_packets=config.filter_track_skb,
            tracked_stacks=_needs_tracked_stacks(config),
            page_fragments=page_fragments,
            packet_ids=_needs_packet_ids(config),
            free_events=_needs_free_events(config),
            drop_locations=drop_locations,
            packet_samples=config.sample_rate > 1,
            flow_samples=config.sample_flow > 1,
            rate_limit=config.rate_limit > 0,
            hit_limit=config.max_hits > 0,
            drop_filter=config.drops,
            meta=config.output_meta,
            netns=config.output_netns_names,
            tuples=config.output_tuple,
            callers=config.output_caller or drop_locations,
            # As in pwru, only with the meta columns.
            control_block=config.output_meta and (config.output_skb_cb or config.filter_trace_tc),
            tunnels=config.output_tunnel,
            members=bool(config.output_skb_metadata or config.output_xdp_metadata),
            map_calls=config.output_bpfmap,
            conntrack=config.output_ct,
            stacks=config.output_stack,
            skb_text_size=text_size if config.output_skb else 0,
            shared_info_text_size=text_size if config.output_skb_shared_info else 0,
            packet_data=bool(when),
            snaplen=config.pcap_snaplen,
            # ``last`` needs this too: the last event of a packet is known only afterwards.
            capture_every=not when.isdisjoint((EVERY, LAST)),
            first_flag=FIRST in when,
            capture_points=not when <= {FIRST, LAST, EVERY},
            symbols=config.output_caller or config.output_stack or drop_locations,
            netns_names=config.output_netns_names or bool(when),
            run_counts=config.has_statistics,
        )

    @property
    def programs(self) -> bool:
        """Whether BPF programs are traced."""
        return self.tc_programs or self.xdp_programs

    @property
    def tracked_frames(self) -> bool:
        """Whether packets are tracked from an XDP program to the sk_buff built around its frame."""
        return self.tracked_packets and self.xdp_programs

    @property
    def seen_map(self) -> bool:
        """Whether handlers keep the map ``seen``, with what is known of a packet."""
        return self.packet_ids or self.first_flag

    @property
    def samples(self) -> bool:
        """Whether only a sample of the matching packets is traced."""
        return self.packet_samples or self.flow_samples


def _needs_rule_texts(config: Config) -> bool:
    is_printed = config.output_json or config.output_nft is NftOutput.TEXT or config.has_statistics
    is_filtered = bool(config.filter_nft_text) or REJECT in config.filter_nft_verdict
    return config.traces_nft and (is_printed or is_filtered)


def _needs_tracked_stacks(config: Config) -> bool:
    return bool(
        config.filter_track_skb_by_stackid
        or config.filter_non_skb_funcs
        or config.filter_track_bpf_helpers
    )


def _needs_drop_locations(config: Config) -> bool:
    return config.drops or config.output_journey or config.has_statistics


def _needs_free_events(config: Config) -> bool:
    captures_beyond_first = config.output_pcap is not None and not config.capture_when <= {FIRST}
    return _needs_drop_locations(config) or config.has_nft_filter or captures_beyond_first


def _needs_packet_ids(config: Config) -> bool:
    is_printed = config.output_json and config.output_text
    is_sampling = config.sample_rate > 1 or config.sample_flow > 1
    return (
        is_printed
        or is_sampling
        or _needs_free_events(config)
        or config.timestamp is Timestamp.RELATIVE
    )
