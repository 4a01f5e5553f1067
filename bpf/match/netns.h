/* SPDX-License-Identifier: GPL-2.0 */
/* The device and the network namespace of a packet. */
#ifndef PYPWRU_MATCH_NETNS_H
#define PYPWRU_MATCH_NETNS_H

#include "helpers.h"

/* Inode number of a network namespace; 0 if net is NULL. */
ALWAYS_INLINE u32 read_netns_inum(struct net *net)
{
	return net ? KREAD(net, net, ns__inum) : 0;
}

/*
 * Each namespace has a cookie since Linux commit 3d368ab87cf6 ("net: initialize net->net_cookie at
 * netns setup") (in v5.12); before, only those for which a BPF program has requested it. 0 if there
 * is none.
 */
#ifdef FIELD_net_net_cookie
ALWAYS_INLINE u64 read_netns_cookie(struct net *net)
{
	return net ? KREAD(net, net, net_cookie) : 0;
}
#else
ALWAYS_INLINE u64 read_netns_cookie(struct net *net)
{
	return 0;
}
#endif

/*
 * Range of inode numbers of namespaces: from the fixed ones on (include/uapi/linux/nsfs.h), and
 * below what the upper half of a kernel address can be.
 */
#define MIN_NETNS_INUM 0xeffffff0U
#define NETNS_INUM_END 0xffff0000U

struct netns_and_dev {
	struct net_device *dev;
	struct net *net;
	u32 netns; /* inode of net */
};

/*
 * The namespace of a device, else of the packet's socket. Either argument may be 0, and dev may not
 * be a device: skb->dev shares memory with a node in TCP's tree of sk_buffs, and with lengths in
 * UDP's queue.
 */
ALWAYS_INLINE struct netns_and_dev find_netns_and_dev(struct net_device *dev, struct sk_buff *skb)
{
	struct netns_and_dev found = { .dev = dev };

	if (dev) {
		found.net = KREAD(dev, net_device, nd_net);
		found.netns = read_netns_inum(found.net);
		if (found.netns >= MIN_NETNS_INUM && found.netns < NETNS_INUM_END)
			return found;
	}
	found = (struct netns_and_dev){};
	if (skb) {
		struct sock_common *sk = KREAD(skb, sk_buff, sk);

		if (sk)
			found.net = KREAD(sk, sock_common, skc_net);
		found.netns = read_netns_inum(found.net);
	}
	return found;
}

ALWAYS_INLINE u32 find_netns_inum(struct net_device *dev, struct sk_buff *skb)
{
	return find_netns_and_dev(dev, skb).netns;
}

#if TRACE_XDP
ALWAYS_INLINE struct net_device *xdp_device(struct xdp_buff *xdp)
{
	struct xdp_rxq_info *rxq = KREAD(xdp, xdp_buff, rxq);

	return rxq ? KREAD(rxq, xdp_rxq_info, dev) : NULL;
}
#endif

#endif
