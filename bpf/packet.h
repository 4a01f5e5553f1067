/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Does this packet match? The hot path: most skbs do not.
 *
 * The filter exists twice, compiled for Ethernet frames (l2) and for bare IP packets (l3). In C each is a
 * call to a helper that does not exist; filter/inject.py splices the translated filter in its place.
 */
#ifndef __PYPWRU_PACKET_H
#define __PYPWRU_PACKET_H

#include "helpers.h"

#if FILTER

/* Arguments: address, bytes readable there, what the `len` keyword means, accelerated VLAN tag. */
static u64 (*pcap_filter_l2)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_L2;
static u64 (*pcap_filter_l3)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_L3;

#define MAC_HEADER_UNSET 0xffff /* skb_mac_header_was_set() */

/* These are neighbours in every kernel's sk_buff: one read. BLOCK_START and _SIZE come from layout.h. */
#define IN_BLOCK(type, member) (*(type *)(block + FIELD(sk_buff, member) - BLOCK_START))

#if FILTER_USES_TAG
/*
 * The tag that the device, or the stack, keeps beside the packet: 1 << 32 | TPID << 16 | TCI, 0 if none.
 * An all-zero tag means none since kernel commit 354259fa73e2 (6.2); before that a bit said so.
 */
ALWAYS_INLINE u64 accelerated_tag(u64 skb)
{
	u16 proto = 0, tci = 0;

#ifdef FIELD_sk_buff_vlan_present
	u8 present = 0;

	READ(present, skb, OPTIONAL_FIELD(sk_buff, vlan_present));
	if (!(present & (1 << BIT_sk_buff_vlan_present)))
		return 0;
#endif
	READ(proto, skb, FIELD(sk_buff, vlan_proto));
	READ(tci, skb, FIELD(sk_buff, vlan_tci));
#ifndef FIELD_sk_buff_vlan_present
	if (!proto && !tci)
		return 0;
#endif
	return 1ULL << 32 | (u64)swap16(proto) << 16 | tci;
}
#endif

/*
 * Is there an Ethernet header at mac_header? Not mac_len: transmission never sets it. The distance to the
 * network header tells, since a stale or foreign mac_header (tunnels, IP-only devices) lies elsewhere. On
 * reception the network header is not set yet (0) until __netif_receive_skb_core.
 * A filter that names no VLAN sees through a tag inside the frame, as it does through an accelerated one:
 * with a tag in between it gets the IP packet, not the frame.
 */
ALWAYS_INLINE int has_ethernet(u32 mac, u32 network)
{
	u32 distance = network - mac;

	if (mac == MAC_HEADER_UNSET)
		return 0;
	if (network == 0 || distance == ETHERNET_HEADER)
		return 1;
#if FILTER_TAGGED_FRAMES
	if (distance == ETHERNET_HEADER + VLAN_HEADER || distance == ETHERNET_HEADER + 2 * VLAN_HEADER)
		return 1;
#endif
	return 0;
}

/* The bytes from one address to another, which begin with an Ethernet header: what XDP has. */
ALWAYS_INLINE int frame_matches(u64 data, u64 end)
{
	return end > data && pcap_filter_l2(data, end - data, end - data, 0) != 0;
}

ALWAYS_INLINE int packet_matches(u64 skb)
{
	u8 block[BLOCK_SIZE] __attribute__((aligned(8)));
	u64 head, tag = 0;
	u32 mac, network, tail, len = 0;

	if (bpf_probe_read_kernel(block, BLOCK_SIZE, (void *)(skb + BLOCK_START)))
		return 0;
	head = IN_BLOCK(u64, head);
	tail = IN_BLOCK(u32, tail);
	mac = IN_BLOCK(u16, mac_header);
	network = IN_BLOCK(u16, network_header);
#if FILTER_USES_LEN
	READ(len, skb, FIELD(sk_buff, len));
#endif
#if FILTER_USES_TAG
	tag = accelerated_tag(skb);
#endif
	if (has_ethernet(mac, network)) {
		if (tail <= mac)
			return 0;
		return pcap_filter_l2(head + mac, tail - mac, len, tag) != 0;
	}
	if (!network || tail <= network)
		return 0;
	return pcap_filter_l3(head + network, tail - network, len, tag) != 0;
}

#else

ALWAYS_INLINE int frame_matches(u64 data, u64 end)
{
	return 1;
}

ALWAYS_INLINE int packet_matches(u64 skb)
{
	return 1;
}

#endif
#endif
