/* SPDX-License-Identifier: GPL-2.0 */
/* Is a packet asked for? The pcap filters (packet.h), what is said of its place, and the user's expression. */
#ifndef __PYPWRU_FILTER_H
#define __PYPWRU_FILTER_H

#include "helpers.h"
#include "place.h"
#include "packet.h"

#if FILTER_SKB_EXPR
static u64 (*skb_expression)(u64 skb) = (void *)MARKER_SKB_EXPR;
#endif
#if FILTER_XDP_EXPR
static u64 (*xdp_expression)(u64 xdp) = (void *)MARKER_XDP_EXPR;
#endif

#if FILTER_TUNNEL_L2
static u64 (*tunnel_filter_l2)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_TUNNEL_L2;
#endif
#if FILTER_TUNNEL_L3
static u64 (*tunnel_filter_l3)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_TUNNEL_L3;
#endif

/* A packet that is in no tunnel passes: these filters are about what is inside one. */
ALWAYS_INLINE int tunnel_matches(u64 skb)
{
#if FILTER_TUNNEL_L2 || FILTER_TUNNEL_L3
	u16 network = 0, mac = 0;
	u32 tail = 0;
	u64 head;

	READ(network, skb, FIELD(sk_buff, inner_network_header));
	if (!network)
		return 1;
	head = read_u64(skb + FIELD(sk_buff, head));
	READ(tail, skb, FIELD(sk_buff, tail));
	if (tail <= network)
		return 0;
#if FILTER_TUNNEL_L2
	/* GRE and IPIP carry bare IP packets: nothing can be said of an Ethernet header then */
	READ(mac, skb, FIELD(sk_buff, inner_mac_header));
	if (mac >= network || network - mac < ETHERNET_HEADER)
		return 0;
	if (!tunnel_filter_l2(head + mac, tail - mac, tail - mac, 0))
		return 0;
#endif
#if FILTER_TUNNEL_L3
	if (!tunnel_filter_l3(head + network, tail - network, tail - network, 0))
		return 0;
#endif
#endif
	return 1;
}

/* What --filter-netns and --filter-ifname say; skb is 0 for a frame of XDP. */
ALWAYS_INLINE int place_matches(u64 dev, u64 skb)
{
#if FILTER_IFNAME
	u64 name[2] = {};

	if (!dev)
		return 0;
	/* Behind its end there may be the rest of an older name. */
	bpf_probe_read_kernel_str(name, sizeof(name), (void *)(dev + FIELD(net_device, name)));
	if (name[0] != KNOWN_AT_LOAD(WANTED_IFNAME) || name[1] != KNOWN_AT_LOAD(WANTED_IFNAME_END))
		return 0;
#endif
#if FILTER_NETNS
	if (netns_at(dev, skb) != KNOWN_AT_LOAD(WANTED_NETNS))
		return 0;
#endif
	return 1;
}

ALWAYS_INLINE int skb_passes(u64 skb)
{
	if (!packet_matches(skb) || !tunnel_matches(skb))
		return 0;
#if FILTER_MARK
	if ((read_u32(skb + FIELD(sk_buff, mark)) & KNOWN_AT_LOAD(WANTED_MASK)) != KNOWN_AT_LOAD(WANTED_MARK))
		return 0;
#endif
#if FILTER_IFNAME || FILTER_NETNS
	if (!place_matches(read_u64(skb + FIELD(sk_buff, dev)), skb))
		return 0;
#endif
#if FILTER_SKB_EXPR
	if (!skb_expression(skb))
		return 0;
#endif
	return 1;
}

#if TRACE_XDP
ALWAYS_INLINE int xdp_passes(u64 xdp)
{
	if (!frame_matches(read_u64(xdp + FIELD(xdp_buff, data)), read_u64(xdp + FIELD(xdp_buff, data_end))))
		return 0;
	if (!place_matches(xdp_device(xdp), 0))
		return 0;
#if FILTER_XDP_EXPR
	if (!xdp_expression(xdp))
		return 0;
#endif
	return 1;
}
#endif

#endif
