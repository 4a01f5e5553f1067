/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The packet inside a tunnel's: VXLAN, Geneve, GRE, IPIP. The kernel sets inner_network_header in
 * what it sends into a tunnel, and in what GRO merges; in other received packets the outer headers
 * locate it.
 */
#ifndef PYPWRU_MATCH_TUNNEL_H
#define PYPWRU_MATCH_TUNNEL_H

#include "helpers.h"
#include "flow.h"
#include "match/fragments.h"
#include "match/packet_filter.h"

static u64 (*tunnel_filter_l2)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_TUNNEL_L2;
static u64 (*tunnel_filter_l3)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_TUNNEL_L3;

#if FILTER_TUNNEL_L2 || FILTER_TUNNEL_L3

#define UDP_HEADER 8
/* Destination ports: IANA's, and the kernel's default for VXLAN (drivers/net/vxlan, vxlan_port). */
#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472
#define PORT_GENEVE 6081

#define VXLAN_HEADER 8	    /* RFC 7348, 5 */
#define VXLAN_HAS_VNI 0x08  /* without it the header is invalid */
#define VXLAN_HAS_TYPE 0x04 /* VXLAN-GPE: the payload need not be Ethernet */
#define GENEVE_HEADER 8	    /* RFC 8926, 3.4 */
#define GRE_HEADER 4	    /* RFC 2784, RFC 2890 */
#define GRE_CHECKSUM 0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_VERSION 0x0007

/* Least bytes behind an outer IP header: GRE, and the IP header in it. */
#define MIN_TUNNEL_HEADERS (GRE_HEADER + IPV4_HEADER)

/*
 * Addresses of the inner Ethernet header, 0 if there is none, and of the header behind, 0 if it is
 * not found.
 */
struct inner_headers {
	u64 l2, l3;
};

/* The inner packet begins at this address; `type`: its EtherType. */
ALWAYS_INLINE void set_inner_headers(struct inner_headers *inner, u64 at, u16 type)
{
	if (type == swap16(ETH_P_TEB)) {
		inner->l2 = at;
		inner->l3 = skip_ethernet(at, &type);
	} else if (is_ip(type)) {
		inner->l3 = at;
	}
}

ALWAYS_INLINE void inner_of_gre(struct inner_headers *inner, u64 gre)
{
	u16 header[2] = {}, flags;

	READ(header, gre);
	flags = swap16(header[0]);
	if (flags & (GRE_ROUTING | GRE_VERSION))
		return;
	gre += GRE_HEADER + !!(flags & GRE_CHECKSUM) * 4 + !!(flags & GRE_KEY) * 4 +
	       !!(flags & GRE_SEQUENCE) * 4;
	set_inner_headers(inner, gre, header[1]);
}

ALWAYS_INLINE void inner_of_vxlan(struct inner_headers *inner, u64 vxlan)
{
	u8 flags = 0;

	READ(flags, vxlan);
	if ((flags & (VXLAN_HAS_VNI | VXLAN_HAS_TYPE)) == VXLAN_HAS_VNI)
		set_inner_headers(inner, vxlan + VXLAN_HEADER, swap16(ETH_P_TEB));
}

ALWAYS_INLINE void inner_of_geneve(struct inner_headers *inner, u64 geneve)
{
	u16 header[2] = {};
	u8 first;

	READ(header, geneve);
	/* Version, and the length of the options in words of 4 bytes. */
	first = swap16(header[0]) >> 8;
	if (first < 0x40)
		set_inner_headers(inner, geneve + GENEVE_HEADER + first * 4, header[1]);
}

/*
 * Find the inner headers of the packet whose IP header is at `l3`, 0 if it has none. Returns 0 if
 * the headers reach beyond `end`: the bytes there are not the packet's.
 */
ALWAYS_INLINE int inner_of_ip(struct inner_headers *inner, u64 l3, u64 end)
{
	struct part_tunnel outer __attribute__((aligned(8))) = {};
	u64 l4 = l3 ? fill_ip(TUPLE_DEST(&outer), l3, 0) : 0;
	u16 port = swap16(outer.dport);

	if (!l4)
		return !l3 || l3 + IPV4_HEADER <= end;
	if (l4 + UDP_HEADER > end)
		return 0;
	if (outer.l4 == PROTO_IPIP || outer.l4 == PROTO_IPV6)
		inner->l3 = l4;
	else if (outer.l4 == PROTO_GRE)
		inner_of_gre(inner, l4);
	else if (outer.l4 == PROTO_UDP && (port == PORT_VXLAN || port == PORT_VXLAN_LINUX))
		inner_of_vxlan(inner, l4 + UDP_HEADER);
	else if (outer.l4 == PROTO_UDP && port == PORT_GENEVE)
		inner_of_geneve(inner, l4 + UDP_HEADER);
	else
		return 1;
	return l4 + MIN_TUNNEL_HEADERS <= end;
}

/*
 * Run the tunnel filters on the packet inside the one whose IP header is at `outer`, or at `inner`
 * as far as that is known, and which ends at `end`. GRE and IPIP carry bare IP packets: a filter on
 * the Ethernet header doesn't match these. A packet that is in no tunnel passes, as in pwru: these
 * filters are about what is inside one.
 */
ALWAYS_INLINE u64 run_tunnel_filters(struct inner_headers inner, u64 outer, u64 end)
{
	struct inner_headers found = {};
	u64 result = 1;

	if (!inner_of_ip(&found, outer, end))
		return NEEDS_FRAGMENTS | 1;
	if (found.l3)
		inner = found;
	if (!inner.l3)
		return 1;
	if (inner.l3 >= end)
		return NEEDS_FRAGMENTS;
	if (FILTER_TUNNEL_L2) {
		if (!inner.l2)
			return 0;
		result = tunnel_filter_l2(inner.l2, end - inner.l2, end - inner.l2, 0);
		if (!IS_FILTER_MATCH(result))
			return result;
	}
	if (FILTER_TUNNEL_L3)
		result = tunnel_filter_l3(inner.l3, end - inner.l3, end - inner.l3, 0);
	return result;
}

/* The inner headers as far as the sk_buff has them. */
ALWAYS_INLINE void inner_of_skb(struct inner_headers *inner, struct sk_buff *skb, u64 head)
{
	u16 network = 0, mac = 0;

	READ(network, MEMBER(skb, sk_buff, inner_network_header));
	READ(mac, MEMBER(skb, sk_buff, inner_mac_header));
	if (!network)
		return;
	inner->l3 = head + network;
	if (mac && mac < network && network - mac >= ETHERNET_HEADER)
		inner->l2 = head + mac;
}

/* The same headers in a copy of the packet. */
ALWAYS_INLINE struct inner_headers relocate_inner(struct inner_headers inner, u64 from, u64 to)
{
	if (inner.l2)
		inner.l2 += to - from;
	if (inner.l3)
		inner.l3 += to - from;
	return inner;
}

/*
 * An sk_buff that GRO has parsed but not merged has inner_network_header alone: the outer headers
 * locate the inner Ethernet header.
 */
ALWAYS_INLINE int tunnel_matches(struct sk_buff *skb)
{
	u64 head = KREAD(skb, sk_buff, head), end = head + KREAD(skb, sk_buff, tail);
	u64 outer = 0, start;
	struct inner_headers inner = {};

	inner_of_skb(&inner, skb, head);
	start = inner.l2 ? inner.l2 : inner.l3;
	if (!inner.l3 || (FILTER_TUNNEL_L2 && !inner.l2)) {
		outer = ip_of_skb(skb);
		if (outer)
			start = outer;
	}
	if (!start)
		return 1;
	if (start > end)
		return 0;
	return RUN_FILTER(skb, start, end - start,
			  run_tunnel_filters(relocate_inner(inner, start, input.at),
					     outer ? input.at : 0, input.at + input.size));
}

ALWAYS_INLINE int frame_tunnel_matches(u64 data, u64 end)
{
	struct inner_headers none = {};

	return IS_FILTER_MATCH(run_tunnel_filters(none, ip_of_frame(data), end));
}

#else

ALWAYS_INLINE int tunnel_matches(struct sk_buff *skb)
{
	return 1;
}

ALWAYS_INLINE int frame_tunnel_matches(u64 data, u64 end)
{
	return 1;
}

#endif
#endif
