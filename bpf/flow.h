/* SPDX-License-Identifier: GPL-2.0 */
/* The flow part of a record: the packet's namespace, device and headers. */
#ifndef __PYPWRU_FLOW_H
#define __PYPWRU_FLOW_H

#include "helpers.h"
#include "event.h"
#include "match/packet_filter.h"
#include "match/netns.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_TEB 0x6558 /* an Ethernet frame */
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8

#define PROTO_HOPOPTS 0
#define PROTO_IPIP 4
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_GRE 47
#define PROTO_AH 51
#define PROTO_DSTOPTS 60

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define MAX_IPV6_EXTENSIONS 6  /* more in a row than RFC 8200 4.1 recommends */
#define FRAGMENT_OFFSET 0xfff8 /* RFC 8200 4.5: the upper 13 bits */

#define DST_NOREF 1ULL	   /* SKB_DST_NOREF */
#define METRICS_FLAGS 3ULL /* DST_METRICS_FLAGS */
#define METRIC_MTU 4	   /* (RTAX_MTU - 1) * sizeof(u32) */

/* MTU of the packet's route if it has one, else of its device. */
ALWAYS_INLINE u32 mtu_of(struct sk_buff *skb, struct net_device *dev)
{
	struct dst_entry *dst = (void *)(KREAD(skb, sk_buff, _skb_refdst) & ~DST_NOREF);
	u32 mtu;

	if (!dst)
		return dev ? KREAD(dev, net_device, mtu) : 0;
	mtu = read_u32((KREAD(dst, dst_entry, _metrics) & ~METRICS_FLAGS) + METRIC_MTU);
	if (mtu)
		return mtu;
	dev = KREAD(dst, dst_entry, dev);
	return KREAD(dev, net_device, mtu);
}

ALWAYS_INLINE void fill_netns_and_dev(struct event *event, struct sk_buff *skb)
{
	struct netns_and_dev found = find_netns_and_dev(KREAD(skb, sk_buff, dev), skb);

	event->netns = found.netns;
	event->netns_cookie = read_netns_cookie(found.net);
	if (!OUTPUT_META)
		return;
	if (found.dev) {
		event->ifindex = KREAD(found.dev, net_device, ifindex);
		READ(event->ifname, MEMBER(found.dev, net_device, name));
	}
	event->mark = KREAD(skb, sk_buff, mark);
	event->mtu = mtu_of(skb, found.dev);
	event->len = KREAD(skb, sk_buff, len);
}

/* Destination of a tuple: members of struct event or of struct part_tunnel. */
struct tuple_dest {
	u8 *l3, *l4, *saddr, *daddr, *tcp_flags;
	u16 *sport, *dport;
};

#define TUPLE_DEST(part)                         \
	((struct tuple_dest){                    \
		.l3 = &(part)->l3,               \
		.l4 = &(part)->l4,               \
		.saddr = (part)->saddr,          \
		.daddr = (part)->daddr,          \
		.tcp_flags = &(part)->tcp_flags, \
		.sport = &(part)->sport,         \
		.dport = &(part)->dport,         \
	})

/* `l4`: address of the transport header. */
ALWAYS_INLINE void fill_ports(struct tuple_dest to, u64 l4)
{
	u8 header[14]; /* up to the flags of TCP */

	if (*to.l4 == PROTO_TCP) {
		if (bpf_probe_read_kernel(header, sizeof(header), (void *)l4))
			return;
		*to.tcp_flags = header[13];
	} else if (*to.l4 == PROTO_UDP) {
		if (bpf_probe_read_kernel(header, 4, (void *)l4))
			return;
	} else {
		return;
	}
	*to.sport = *(u16 *)header;
	*to.dport = *(u16 *)(header + 2);
}

/* As fill_ip(). */
ALWAYS_INLINE u64 fill_ipv4(struct tuple_dest to, u64 l3)
{
	u8 header[IPV4_HEADER] __attribute__((aligned(4)));
	u16 fragment;

	if (bpf_probe_read_kernel(header, sizeof(header), (void *)l3))
		return 0;
	*to.l3 = 4;
	*to.l4 = header[9];
	*(u32 *)to.saddr = *(u32 *)(header + 12);
	*(u32 *)to.daddr = *(u32 *)(header + 16);
	fragment = swap16(*(u16 *)(header + 6)) & 0x1fff;
	if (fragment) /* a later fragment has payload in place of ports */
		return 0;
	l3 += (header[0] & 0xf) * 4;
	fill_ports(to, l3);
	return l3;
}

/* As fill_ip(). */
ALWAYS_INLINE u64 fill_ipv6(struct tuple_dest to, u64 l3)
{
	u8 header[IPV6_HEADER] __attribute__((aligned(8)));
	u8 next, extension[4];
	int i;

	if (bpf_probe_read_kernel(header, sizeof(header), (void *)l3))
		return 0;
	*to.l3 = 6;
	__builtin_memcpy(to.saddr, header + 8, 16);
	__builtin_memcpy(to.daddr, header + 24, 16);
	next = header[6];
	l3 += IPV6_HEADER;
#pragma unroll
	for (i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
		if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_FRAGMENT &&
		    next != PROTO_AH && next != PROTO_DSTOPTS)
			break;
		if (bpf_probe_read_kernel(extension, sizeof(extension), (void *)l3))
			break;
		if (next == PROTO_FRAGMENT) {
			l3 += 8;
			next = extension[0];
			if (swap16(*(u16 *)(extension + 2)) & FRAGMENT_OFFSET) {
				*to.l4 = next;
				return 0;
			}
			continue;
		}
		/*
		 * AH counts 4-octet units, minus two (RFC 4302 2.2); the others 8-octet units,
		 * minus one
		 */
		l3 += next == PROTO_AH ? (extension[1] + 2) * 4 : (extension[1] + 1) * 8;
		next = extension[0];
	}
	*to.l4 = next;
	fill_ports(to, l3);
	return l3;
}

ALWAYS_INLINE int is_tag(u16 type)
{
	return type == swap16(ETH_P_8021Q) || type == swap16(ETH_P_8021AD);
}

ALWAYS_INLINE int is_ip(u16 type)
{
	return type == swap16(ETH_P_IP) || type == swap16(ETH_P_IPV6);
}

/*
 * Parse the IP header at `l3`. The version is taken from the header itself: while a packet is put
 * into a tunnel, it has the EtherType of the inner one. `type`, the EtherType, excludes other
 * headers that may begin with 4 or 6, too; where it is not set yet (0), the version alone decides.
 *
 * Returns the address of the next header: 0 if this is not IP, or a later fragment, which has none.
 */
ALWAYS_INLINE u64 fill_ip(struct tuple_dest to, u64 l3, u16 type)
{
	u8 version = 0;

	if (type && !is_ip(type))
		return 0;
	READ(version, l3);
	version >>= 4;
	if (version == 4)
		return fill_ipv4(to, l3);
	if (version == 6)
		return fill_ipv6(to, l3);
	return 0;
}

/*
 * A tag inside the frame is at network_header on reception; in what a packet socket sends it is in
 * front of that.
 */
ALWAYS_INLINE int tag_precedes_network(struct sk_buff *skb, u16 network)
{
	u16 mac = 0, distance;

	READ(mac, MEMBER(skb, sk_buff, mac_header));
	distance = network - mac;
	return distance == ETHERNET_HEADER + VLAN_HEADER ||
	       distance == ETHERNET_HEADER + 2 * VLAN_HEADER;
}

/*
 * Skip VLAN tags. Returns the address of the network header; `type`, the EtherType in front,
 * becomes that of the header.
 */
ALWAYS_INLINE u64 skip_vlan_tags(struct sk_buff *skb, u64 head, u16 network, u16 *type)
{
	u64 l3 = head + network;

	if (is_tag(*type)) {
		if (!tag_precedes_network(skb, network))
			l3 += VLAN_HEADER;
		READ(*type, l3 - 2);
		if (*type == swap16(ETH_P_8021Q)) {
			l3 += VLAN_HEADER;
			READ(*type, l3 - 2);
		}
	}
	return l3;
}

/*
 * Skip the Ethernet header of a frame and up to two VLAN tags. Returns the address behind; `type`
 * becomes the EtherType.
 */
ALWAYS_INLINE u64 skip_ethernet(u64 frame, u16 *type)
{
	u64 l3 = frame + ETHERNET_HEADER;
	int i;

	*type = 0;
	READ(*type, l3 - 2);
#pragma unroll
	for (i = 0; i < 2; i++) {
		if (is_tag(*type)) {
			l3 += VLAN_HEADER;
			READ(*type, l3 - 2);
		}
	}
	return l3;
}

/* Address of the IP header of a frame; 0 if it has none. */
ALWAYS_INLINE u64 ip_of_frame(u64 frame)
{
	u16 type;
	u64 l3 = skip_ethernet(frame, &type);

	return is_ip(type) ? l3 : 0;
}

/* Address of the IP header of an sk_buff; 0 if it has none, or neither header is set. */
ALWAYS_INLINE u64 ip_of_skb(struct sk_buff *skb)
{
	struct headers at;
	u16 type = 0;
	u64 l3;

	if (!read_headers(skb, &at))
		return 0;
	if (at.network) {
		READ(type, MEMBER(skb, sk_buff, protocol));
		l3 = skip_vlan_tags(skb, at.head, at.network, &type);
		return !type || is_ip(type) ? l3 : 0;
	}
	return at.mac == MAC_HEADER_UNSET ? 0 : ip_of_frame(at.head + at.mac);
}

ALWAYS_INLINE void fill_tuple(struct event *event, struct sk_buff *skb)
{
	u64 head = KREAD(skb, sk_buff, head), l3;
	u16 network = 0, type = event->protocol;

	READ(network, MEMBER(skb, sk_buff, network_header));
	if (!network) /* not set yet, or not a network packet (netlink) */
		return;
	l3 = skip_vlan_tags(skb, head, network, &type);
	fill_ip(TUPLE_DEST(event), l3, type);
}

#define AF_UNIX 1
#define AF_KEY 15
#define AF_NETLINK 16

/*
 * Whether an sk_buff is a message between sockets, or between a socket and the kernel: these have
 * neither a device nor a protocol. A TCP segment without a route has neither, too, but has an IP
 * socket. One without a socket is a packet if it has headers.
 */
ALWAYS_INLINE int is_message(struct sk_buff *skb)
{
	u16 protocol = 0, family = 0, network = 0, mac = 0;
	struct sock_common *sk;

	READ(protocol, MEMBER(skb, sk_buff, protocol));
	if (protocol || KREAD(skb, sk_buff, dev))
		return 0;
	sk = KREAD(skb, sk_buff, sk);
	if (sk) {
		READ(family, MEMBER(sk, sock_common, skc_family));
		return family == AF_UNIX || family == AF_KEY || family == AF_NETLINK;
	}
	READ(network, MEMBER(skb, sk_buff, network_header));
	READ(mac, MEMBER(skb, sk_buff, mac_header));
	return !network && mac == MAC_HEADER_UNSET;
}

/*
 * Fill the flow part. It is zeroed first: a field that does not apply is 0, and no byte is left
 * from an older record.
 */
ALWAYS_INLINE void fill_flow(struct event *event, struct sk_buff *skb)
{
	__builtin_memset(&event->netns, 0,
			 sizeof(*event) - __builtin_offsetof(struct event, netns));
	if (OUTPUT_META || OUTPUT_NETNS)
		fill_netns_and_dev(event, skb);
	if (OUTPUT_META || OUTPUT_TUPLE)
		READ(event->protocol, MEMBER(skb, sk_buff, protocol));
	if (OUTPUT_TUPLE)
		fill_tuple(event, skb);
	if (FREE_RECORDS) {
		event->is_message = is_message(skb);
		event->is_shared = KREAD(skb, sk_buff, users) > 1;
	}
}

#if TRACE_XDP
/*
 * As fill_flow() for a frame, which has no sk_buff: no mark, no protocol, and its length is
 * data_end - data.
 */
ALWAYS_INLINE void fill_xdp_flow(struct event *event, struct xdp_buff *xdp)
{
	struct netns_and_dev found = find_netns_and_dev(xdp_device(xdp), NULL);
	u64 data = KREAD(xdp, xdp_buff, data);
	u16 type = 0;

	__builtin_memset(&event->netns, 0,
			 sizeof(*event) - __builtin_offsetof(struct event, netns));
	event->netns = found.netns;
	event->netns_cookie = read_netns_cookie(found.net);
	if (found.dev) {
		event->ifindex = KREAD(found.dev, net_device, ifindex);
		READ(event->ifname, MEMBER(found.dev, net_device, name));
		event->mtu = KREAD(found.dev, net_device, mtu);
	}
	event->len = KREAD(xdp, xdp_buff, data_end) - data;
	if (!OUTPUT_TUPLE)
		return;
	READ(type, data + ETHERNET_HEADER - 2);
	data += ETHERNET_HEADER;
	if (is_tag(type)) {
		READ(type, data + 2);
		data += VLAN_HEADER;
	}
	if (type)
		fill_ip(TUPLE_DEST(event), data, type);
}
#endif

#endif
