/* SPDX-License-Identifier: GPL-2.0 */
/* Where a packet is: its device and its network namespace. */
#ifndef __PYPWRU_PLACE_H
#define __PYPWRU_PLACE_H

#include "helpers.h"

ALWAYS_INLINE u32 netns_of(u64 net)
{
	return net ? read_u32(net + FIELD(net, ns__inum)) : 0;
}

/* The inode of the namespace of a device, else of the packet's socket; both may be 0. */
ALWAYS_INLINE u32 netns_at(u64 dev, u64 skb)
{
	u32 netns = 0;

	if (dev)
		netns = netns_of(read_u64(dev + FIELD(net_device, nd_net)));
	if (!netns && skb) {
		u64 sk = read_u64(skb + FIELD(sk_buff, sk));

		if (sk)
			netns = netns_of(read_u64(sk + FIELD(sock_common, skc_net)));
	}
	return netns;
}

#if TRACE_XDP
ALWAYS_INLINE u64 xdp_device(u64 xdp)
{
	u64 rxq = read_u64(xdp + FIELD(xdp_buff, rxq));

	return rxq ? read_u64(rxq + FIELD(xdp_rxq_info, dev)) : 0;
}
#endif

#endif
