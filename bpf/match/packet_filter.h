/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Does this packet match the pcap filter? The hot path: most sk_buffs do not.
 *
 * The filter exists twice, compiled for Ethernet frames (l2) and for bare IP packets (l3). In C
 * each is a call to a helper that does not exist; filter/splice.py splices the translated filter in
 * its place.
 */
#ifndef PYPWRU_MATCH_PACKET_FILTER_H
#define PYPWRU_MATCH_PACKET_FILTER_H

#include "helpers.h"
#include "match/fragments.h"

/*
 * These are neighbours in every kernel's sk_buff: one read. program/layout.py defines BLOCK_START
 * and BLOCK_SIZE.
 */
#define SKB_BLOCK(type, member) (*(type *)(block + FIELD(sk_buff, member) - BLOCK_START))

/* Offsets from `head` of the headers and of the end of the linear area. */
struct headers {
	u64 head;
	u32 mac, network, tail;
};

ALWAYS_INLINE int read_headers(struct sk_buff *skb, struct headers *to)
{
	u8 block[BLOCK_SIZE] __attribute__((aligned(8)));

	if (bpf_probe_read_kernel(block, BLOCK_SIZE, (void *)(address_of(skb) + BLOCK_START)))
		return 0;
	to->head = SKB_BLOCK(u64, head);
	to->tail = SKB_BLOCK(u32, tail);
	to->mac = SKB_BLOCK(u16, mac_header);
	to->network = SKB_BLOCK(u16, network_header);
	return 1;
}

/*
 * Before Linux commit 354259fa73e2 ("net: remove skb->vlan_present") (in v6.2) a bit is set if
 * there is an accelerated VLAN tag; since then an all-zero tag means none.
 */
#ifdef FIELD_sk_buff_vlan_present
#define ZERO_IS_NO_TAG 0

ALWAYS_INLINE int may_have_tag(struct sk_buff *skb)
{
	u8 present = 0;

	READ(present, MEMBER(skb, sk_buff, vlan_present));
	return present & (1 << BIT_sk_buff_vlan_present);
}
#else
#define ZERO_IS_NO_TAG 1

ALWAYS_INLINE int may_have_tag(struct sk_buff *skb)
{
	return 1;
}
#endif

/*
 * The VLAN tag that the device, or the stack, keeps beside the packet: 1 << 32 | TPID << 16 | TCI,
 * 0 if none.
 */
ALWAYS_INLINE u64 accelerated_tag(struct sk_buff *skb)
{
	u16 proto = 0, tci = 0;

	if (!may_have_tag(skb))
		return 0;
	READ(proto, MEMBER(skb, sk_buff, vlan_proto));
	READ(tci, MEMBER(skb, sk_buff, vlan_tci));
	if (ZERO_IS_NO_TAG && !proto && !tci)
		return 0;
	return 1ULL << 32 | (u64)swap16(proto) << 16 | tci;
}

/*
 * Whether there is an Ethernet header at mac_header. mac_len won't do, since transmission never
 * sets it. The distance to the network header decides: a stale or foreign mac_header (tunnels,
 * IP-only devices) lies elsewhere. On reception the network header is not set (0) until
 * __netif_receive_skb_core(). `tagged`: frames with a tag inside count, too.
 */
ALWAYS_INLINE int has_ethernet(struct headers *at, int tagged)
{
	u32 distance = at->network - at->mac;

	if (at->mac == MAC_HEADER_UNSET)
		return 0;
	if (at->network == 0 || distance == ETHERNET_HEADER)
		return 1;
	return tagged && (distance == ETHERNET_HEADER + VLAN_HEADER ||
			  distance == ETHERNET_HEADER + 2 * VLAN_HEADER);
}

#if FILTER

/* Arguments: address, bytes readable there, value of the `len` keyword, accelerated VLAN tag. */
static u64 (*pcap_filter_l2)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_L2;
static u64 (*pcap_filter_l3)(u64 data, u64 caplen, u64 len, u64 tag) = (void *)MARKER_L3;

/*
 * Whether an XDP frame matches: the bytes from `data` to `end`, which begin with an Ethernet
 * header.
 */
ALWAYS_INLINE int frame_matches(u64 data, u64 end)
{
	return end > data && IS_FILTER_MATCH(pcap_filter_l2(data, end - data, end - data, 0));
}

ALWAYS_INLINE u64 run_pcap_filter(struct filter_input *input, int is_frame, u32 len, u64 tag)
{
	return is_frame ? pcap_filter_l2(input->at, input->size, len, tag)
			: pcap_filter_l3(input->at, input->size, len, tag);
}

/*
 * A filter without VLAN primitives ignores a tag inside the frame, as it ignores an accelerated
 * one: if there is a tag, it runs on the IP packet, not on the frame.
 */
ALWAYS_INLINE int packet_matches(struct sk_buff *skb)
{
	struct headers at;
	u32 len = 0, start;
	u64 tag = 0;
	int is_frame;

	if (!read_headers(skb, &at))
		return 0;
	if (FILTER_USES_LEN)
		READ(len, MEMBER(skb, sk_buff, len));
	if (FILTER_USES_TAG)
		tag = accelerated_tag(skb);
	is_frame = has_ethernet(&at, FILTER_TAGGED_FRAMES);
	if (FILTER_FRAGMENTS) {
		start = is_frame ? at.mac : at.network;
		if ((!is_frame && !start) || at.tail <= start)
			return 0;
		return RUN_FILTER(skb, at.head + start, at.tail - start,
				  run_pcap_filter(&input, is_frame, len, tag));
	}
	if (is_frame) {
		if (at.tail <= at.mac)
			return 0;
		return pcap_filter_l2(at.head + at.mac, at.tail - at.mac, len, tag) != 0;
	}
	if (!at.network || at.tail <= at.network)
		return 0;
	return pcap_filter_l3(at.head + at.network, at.tail - at.network, len, tag) != 0;
}

#else

ALWAYS_INLINE int frame_matches(u64 data, u64 end)
{
	return 1;
}

ALWAYS_INLINE int packet_matches(struct sk_buff *skb)
{
	return 1;
}

#endif
#endif
