/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The switches of a compile: each is 0 or 1, so that what a run doesn't need is not in its
 * programs: neither the code behind `if (SWITCH)` nor that behind #if. Within functions it is the
 * first, since the compiler checks that code in all runs. program/macros.py and filter/criteria.py
 * pass them as -D; one that is missing is an error. Beside them come the numbers of maps, constants
 * and splices: MAP_*, VALUE_*, MARKER_*, WIRE_*, SNAPLEN and PAGE_SIZE.
 */
#ifndef PYPWRU_SWITCHES_H
#define PYPWRU_SWITCHES_H

/* How functions are probed; by single kprobes if none of these is set. */
#ifndef BACKEND_KPROBE_MULTI /* one link for many kprobes */
#error "BACKEND_KPROBE_MULTI is not defined"
#endif
#ifndef BACKEND_FENTRY /* single tracing programs */
#error "BACKEND_FENTRY is not defined"
#endif
#ifndef BACKEND_FENTRY_MULTI /* one link for many functions with tracing programs */
#error "BACKEND_FENTRY_MULTI is not defined"
#endif
#ifndef BACKEND_TRACEPOINT /* raw tracepoints */
#error "BACKEND_TRACEPOINT is not defined"
#endif

/* Which packets match (filter/criteria.py). */
#ifndef FILTER /* a pcap filter */
#error "FILTER is not defined"
#endif
#ifndef FILTER_USES_LEN /* which needs the length of the packet */
#error "FILTER_USES_LEN is not defined"
#endif
#ifndef FILTER_USES_TAG /* which needs the accelerated VLAN tag */
#error "FILTER_USES_TAG is not defined"
#endif
#ifndef FILTER_TAGGED_FRAMES /* which a tag inside the frame decides, too */
#error "FILTER_TAGGED_FRAMES is not defined"
#endif
#ifndef FILTER_FRAGMENTS /* a filter reads on in page fragments */
#error "FILTER_FRAGMENTS is not defined"
#endif
#ifndef FILTER_TUNNEL_L2 /* --filter-tunnel-pcap-l2 */
#error "FILTER_TUNNEL_L2 is not defined"
#endif
#ifndef FILTER_TUNNEL_L3 /* --filter-tunnel-pcap-l3 */
#error "FILTER_TUNNEL_L3 is not defined"
#endif
#ifndef FILTER_NETNS /* --filter-netns */
#error "FILTER_NETNS is not defined"
#endif
#ifndef FILTER_IFNAME /* --filter-ifname */
#error "FILTER_IFNAME is not defined"
#endif
#ifndef FILTER_MARK /* --filter-mark */
#error "FILTER_MARK is not defined"
#endif
#ifndef FILTER_SKB_EXPR /* --filter-skb-expr */
#error "FILTER_SKB_EXPR is not defined"
#endif
#ifndef FILTER_XDP_EXPR /* --filter-xdp-expr */
#error "FILTER_XDP_EXPR is not defined"
#endif

/* What is traced beside functions with an sk_buff. */
#ifndef NFT /* verdicts of nftables and iptables-legacy */
#error "NFT is not defined"
#endif
#ifndef TRACE_TC /* TC programs */
#error "TRACE_TC is not defined"
#endif
#ifndef TRACE_XDP /* XDP programs */
#error "TRACE_XDP is not defined"
#endif

/* What is known of packets between their events. */
#ifndef TRACK_SKB /* --filter-track-skb: sk_buffs that no longer match, clones and copies */
#error "TRACK_SKB is not defined"
#endif
#ifndef TRACK_HEADS /* the same from an XDP program's frame to the sk_buff that is built around it \
		     */
#error "TRACK_HEADS is not defined"
#endif
#ifndef TRACK_STACK /* the packet that is handled on a stack: nested calls without one are events \
		     */
#error "TRACK_STACK is not defined"
#endif
#ifndef PACKET_IDS /* packet ids */
#error "PACKET_IDS is not defined"
#endif
#ifndef FREE_RECORDS /* EVENT_SKB_FREE, with PACKET_IDS */
#error "FREE_RECORDS is not defined"
#endif

/* Which events are written. */
#ifndef SAMPLE_PACKETS /* --sample-rate, with PACKET_IDS */
#error "SAMPLE_PACKETS is not defined"
#endif
#ifndef SAMPLE_FLOWS /* --sample-flow, with PACKET_IDS */
#error "SAMPLE_FLOWS is not defined"
#endif
#ifndef LIMIT_RATE /* --rate-limit */
#error "LIMIT_RATE is not defined"
#endif
#ifndef LIMIT_HITS /* --max-hits */
#error "LIMIT_HITS is not defined"
#endif

/* What an event has. Of the parts behind it WIRE_SIZE_<part> is 0 or not (event.h). */
#ifndef OUTPUT_META /* namespace, mark, device, MTU and length */
#error "OUTPUT_META is not defined"
#endif
#ifndef OUTPUT_NETNS /* the namespace, also without OUTPUT_META */
#error "OUTPUT_NETNS is not defined"
#endif
#ifndef OUTPUT_TUPLE /* addresses and ports */
#error "OUTPUT_TUPLE is not defined"
#endif
#ifndef OUTPUT_BPFMAP /* calls of functions on BPF maps */
#error "OUTPUT_BPFMAP is not defined"
#endif
#ifndef OUTPUT_SKB_METADATA /* --output-skb-metadata */
#error "OUTPUT_SKB_METADATA is not defined"
#endif
#ifndef OUTPUT_XDP_METADATA /* --output-xdp-metadata */
#error "OUTPUT_XDP_METADATA is not defined"
#endif
#ifndef LOCATE_DROPS /* the call chain of drops */
#error "LOCATE_DROPS is not defined"
#endif

/* Packet data (--output-pcap). */
#ifndef CAPTURE /* it is captured */
#error "CAPTURE is not defined"
#endif
#ifndef CAPTURE_EVERY /* at every event */
#error "CAPTURE_EVERY is not defined"
#endif
#ifndef CAPTURE_FIRST /* at a packet's first event; or the first is flagged */
#error "CAPTURE_FIRST is not defined"
#endif
#ifndef CAPTURE_AT_POINTS /* at functions in the map `capture_points` */
#error "CAPTURE_AT_POINTS is not defined"
#endif

#endif
