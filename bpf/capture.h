/* SPDX-License-Identifier: GPL-2.0 */
/* Packet data (--output-pcap): where it begins, whether this event captures it, and struct part_bytes. */
#ifndef __PYPWRU_CAPTURE_H
#define __PYPWRU_CAPTURE_H

#include "helpers.h"
#include "event.h"
#include "flow.h"
#include "packet.h"
#include "tail.h"
#include "seen.h"
#include "chunks.h"

#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772

/* The packet data to capture at one event. */
struct told {
	u64 dev;     /* address of the struct net_device, or 0 */
	u64 head;    /* skb->head */
	u64 start;   /* address of the first byte to capture */
	u64 l3;	     /* address of the network header */
	u32 linear;  /* bytes from start to the end of the linear area */
	u32 len;     /* bytes from start on, fragments included */
	u16 device;  /* ARPHRD_* of dev, or NO_DEVICE */
	u8 layer;    /* 2: start is an Ethernet header, 3: a network header, 0: capture nothing */
	u8 first;    /* this is the packet's first event (CAPTURE_FIRST) */
};

#if CAPTURE_CHOSEN
/*
 * Whether a function is a capture point of --pcap-when. The map `chosen` has an entry for each capture point, a bitmask
 * of the drop reasons that are no drops there. The entry of address 0 is for all other functions that pass a drop
 * reason.
 */
ALWAYS_INLINE int is_chosen(u64 address, u32 reason)
{
	u64 *harmless = bpf_map_lookup_elem(MAP_chosen, &address), others = 0;

	if (!harmless && reason)
		harmless = bpf_map_lookup_elem(MAP_chosen, &others);
	return harmless && (reason > 63 || !(*harmless >> reason & 1));
}
#endif

#if CAPTURE

ALWAYS_INLINE u16 type_of_device(u64 dev)
{
	u16 type = NO_DEVICE;

	/* skb->dev shares memory with dev_scratch (in a socket's queue): mostly the read fails then. */
	if (dev && READ(type, dev, FIELD(net_device, type)))
		type = NO_DEVICE;
	return type;
}

/* Only these devices have an Ethernet header, whatever mac_header is. */
ALWAYS_INLINE int may_have_ethernet(u16 device)
{
	return device == NO_DEVICE || device == ARPHRD_ETHER || device == ARPHRD_LOOPBACK;
}

/* Locate the packet data of an sk_buff. Leaves layer 0 if neither header is set yet, as in netlink messages. */
ALWAYS_INLINE void look_at(struct told *told, u64 skb)
{
	struct headers at;
	u32 start;

	if (!read_headers(skb, &at))
		return;
	told->dev = read_u64(skb + FIELD(sk_buff, dev));
	told->device = type_of_device(told->dev);
	if (may_have_ethernet(told->device) && has_ethernet(&at, 1)) {
		told->layer = 2;
		start = at.mac;
	} else if (at.network) {
		told->layer = 3;
		start = at.network;
	} else {
		return;
	}
	told->head = at.head;
	told->start = at.head + start;
	told->l3 = at.head + (at.network ? at.network : at.mac + ETHERNET_HEADER);
	told->linear = at.tail - start;
	told->len = told->linear + read_u32(skb + FIELD(sk_buff, data_len));
	if (at.tail < start || !told->len)
		told->layer = 0;
}

/* Whether --pcap-when selects this event. */
ALWAYS_INLINE int is_told(struct told *told, u64 skb, u64 address, u32 reason)
{
	int is_told = CAPTURE_EVERY;

#if CAPTURE_FIRST
	struct seen now = { address, told->dev, words_of(told->l3) };

	told->first = is_first(skb, told->head, TOLD, &now);
	is_told |= told->first;
#endif
#if CAPTURE_CHOSEN
	is_told |= is_chosen(address, reason);
#endif
	return is_told;
}

/*
 * Before Linux v6.3 ("bpf: teach refsafe() to take into account ID remapping") the verifier gives each record that
 * bpf_ringbuf_reserve() returns a reference id of its own on each path, so that states never prune and every path is
 * walked to its end. So merge the paths before the record is reserved: the decision is on the stack, and is read back
 * from there by a helper, after which it is unknown on all paths alike.
 */
ALWAYS_INLINE void decided(struct told *told)
{
	bpf_probe_read_kernel(told, sizeof(*told), told);
}

/* Decide what to capture at this event, and remember that in `seen`. To be called before the record is reserved. */
ALWAYS_INLINE void choose(struct told *told, u64 skb, u64 address, u32 reason)
{
	look_at(told, skb);
	if (told->layer && !is_told(told, skb, address, reason))
		told->layer = 0;
	decided(told);
}

/* skb->pkt_type: PACKET_*. */
ALWAYS_INLINE u8 packet_type(u64 skb)
{
	u8 bits = 0;

	READ(bits, skb, FIELD(sk_buff, pkt_type));
	return bits >> BIT_sk_buff_pkt_type & 7;
}

/* Write the chunks, and the part of the record. */
ALWAYS_INLINE void tell_pieces(struct event *event, struct told *told, struct pieces *pieces)
{
	struct part_bytes *part = PART(event, bytes);
	struct counters *counters = own_counters();
	u32 wanted = told->len < SNAPLEN ? told->len : SNAPLEN;

	if (!counters)
		return;
	pieces->wanted = wanted;
	write_chunks(event, pieces);
	__sync_fetch_and_add(&counters->wanted, 1);
	if (pieces->why == NO_ROOM && pieces->wanted == wanted) {
		__sync_fetch_and_add(&counters->unheard, 1);
		return;
	}
	part->len = told->len;
	part->caplen = wanted - pieces->wanted;
	part->lost = counters->unheard;
	part->device = told->device;
	part->layer = told->layer;
	part->first = told->first;
}

/* Capture the packet data of an sk_buff. */
ALWAYS_INLINE void tell_skb(struct event *event, struct told *told, u64 skb)
{
	struct part_bytes *part = PART(event, bytes);
	struct pieces pieces = { told->start, told->linear };

	if (!told->layer)
		return;
	pieces.skb = read_u64(enter_fragments(&pieces, skb) + FIELD(skb_shared_info, frag_list));
	tell_pieces(event, told, &pieces);
	if (!part->layer)
		return;
	part->tag = accelerated_tag(skb);
	part->type = packet_type(skb);
	READ(part->queue, skb, FIELD(sk_buff, queue_mapping));
}

/* Count a capture that is lost because its record has no room in the ring. */
ALWAYS_INLINE void count_unheard(struct counters *counters, struct told *told)
{
	if (!told->layer)
		return;
	__sync_fetch_and_add(&counters->wanted, 1);
	__sync_fetch_and_add(&counters->unheard, 1);
}

#else

ALWAYS_INLINE void choose(struct told *told, u64 skb, u64 address, u32 reason) {}
ALWAYS_INLINE void tell_skb(struct event *event, struct told *told, u64 skb) {}
ALWAYS_INLINE void count_unheard(struct counters *counters, struct told *told) {}

#endif
#endif
