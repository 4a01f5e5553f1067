/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Does a packet match? The pcap filters (match/packet_filter.h), its device and namespace, and the
 * user's expression.
 */
#ifndef PYPWRU_MATCH_FILTER_H
#define PYPWRU_MATCH_FILTER_H

#include "helpers.h"
#include "match/netns.h"
#include "match/packet_filter.h"
#include "match/tunnel.h"

static u64 (*skb_expression)(struct sk_buff *skb) = (void *)MARKER_SKB_EXPR;
static u64 (*xdp_expression)(struct xdp_buff *xdp) = (void *)MARKER_XDP_EXPR;

/* --filter-netns and --filter-ifname; skb is NULL for an XDP frame. */
ALWAYS_INLINE int netns_and_dev_match(struct net_device *dev, struct sk_buff *skb)
{
	u64 name[2] = {};

	if (FILTER_IFNAME) {
		if (!dev)
			return 0;
		/* Behind the NUL there may be the rest of an older name. */
		bpf_probe_read_kernel_str(name, sizeof(name), MEMBER(dev, net_device, name));
		if (name[0] != LOAD_TIME_CONST(MATCH_IFNAME) ||
		    name[1] != LOAD_TIME_CONST(MATCH_IFNAME_END))
			return 0;
	}
	if (FILTER_NETNS && find_netns_inum(dev, skb) != LOAD_TIME_CONST(MATCH_NETNS))
		return 0;
	return 1;
}

ALWAYS_INLINE int skb_matches(struct sk_buff *skb)
{
	if (!packet_matches(skb) || !tunnel_matches(skb))
		return 0;
	if (FILTER_MARK && (KREAD(skb, sk_buff, mark) & LOAD_TIME_CONST(MATCH_MARK_MASK)) !=
				   LOAD_TIME_CONST(MATCH_MARK))
		return 0;
	if ((FILTER_IFNAME || FILTER_NETNS) && !netns_and_dev_match(KREAD(skb, sk_buff, dev), skb))
		return 0;
	if (FILTER_SKB_EXPR && !skb_expression(skb))
		return 0;
	return 1;
}

#if TRACE_XDP
ALWAYS_INLINE int xdp_matches(struct xdp_buff *xdp)
{
	u64 data = KREAD(xdp, xdp_buff, data), end = KREAD(xdp, xdp_buff, data_end);

	if (!frame_matches(data, end) || !frame_tunnel_matches(data, end))
		return 0;
	if (!netns_and_dev_match(xdp_device(xdp), NULL))
		return 0;
	if (FILTER_XDP_EXPR && !xdp_expression(xdp))
		return 0;
	return 1;
}
#endif

#endif
