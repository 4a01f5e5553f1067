/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packet data (--output-pcap): where it begins, whether this event captures it, and struct
 * part_bytes.
 */
#ifndef PYPWRU_CAPTURE_CAPTURE_H
#define PYPWRU_CAPTURE_CAPTURE_H

#include "helpers.h"
#include "event.h"
#include "flow.h"
#include "match/packet_filter.h"
#include "parts.h"
#include "skb/packet_ids.h"
#include "capture/chunks.h"

#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772

/* The packet data to capture at one event. */
struct capture {
	struct net_device *dev; /* or NULL */
	u64 head;		/* skb->head */
	u64 start;		/* address of the first byte to capture */
	u64 l3;			/* address of the network header */
	u32 linear;		/* bytes from start to the end of the linear area */
	u32 len;		/* bytes from start on, fragments included */
	u16 device_type;	/* ARPHRD_* of dev, or NO_DEVICE */
	u8 layer;    /* 2: start is an Ethernet header, 3: a network header, 0: capture nothing */
	u8 is_first; /* this is the packet's first event (CAPTURE_FIRST) */
};

/*
 * Whether a function is a capture point of --pcap-when. The map `capture_points` has an entry for
 * each, a bitmask of the drop reasons that are no drops there. The entry of address 0 is for all
 * other functions that pass a drop reason.
 */
ALWAYS_INLINE int is_capture_point(u64 address, u32 reason)
{
	u64 *harmless = bpf_map_lookup_elem(MAP_capture_points, &address), others = 0;

	if (!harmless && reason)
		harmless = bpf_map_lookup_elem(MAP_capture_points, &others);
	return harmless && (reason > 63 || !(*harmless >> reason & 1));
}

#if CAPTURE

ALWAYS_INLINE u16 device_type_of(struct net_device *dev)
{
	u16 type = NO_DEVICE;

	/*
	 * skb->dev shares memory with dev_scratch (in a socket's queue): mostly the read fails
	 * then.
	 */
	if (dev && READ(type, MEMBER(dev, net_device, type)))
		type = NO_DEVICE;
	return type;
}

/* Only these devices have an Ethernet header, whatever mac_header is. */
ALWAYS_INLINE int may_have_ethernet(u16 device)
{
	return device == NO_DEVICE || device == ARPHRD_ETHER || device == ARPHRD_LOOPBACK;
}

/*
 * Locate the packet data of an sk_buff. Leaves layer 0 if neither header is set yet, as in netlink
 * messages.
 */
ALWAYS_INLINE void locate_packet_data(struct capture *capture, struct sk_buff *skb)
{
	struct headers at;
	u32 start;

	if (!read_headers(skb, &at))
		return;
	capture->dev = KREAD(skb, sk_buff, dev);
	capture->device_type = device_type_of(capture->dev);
	if (may_have_ethernet(capture->device_type) && has_ethernet(&at, 1)) {
		capture->layer = 2;
		start = at.mac;
	} else if (at.network) {
		capture->layer = 3;
		start = at.network;
	} else {
		return;
	}
	capture->head = at.head;
	capture->start = at.head + start;
	capture->l3 = at.head + (at.network ? at.network : at.mac + ETHERNET_HEADER);
	capture->linear = at.tail - start;
	capture->len = capture->linear + KREAD(skb, sk_buff, data_len);
	if (at.tail < start || !capture->len)
		capture->layer = 0;
}

/* Whether --pcap-when selects this event. */
ALWAYS_INLINE int needs_capture(struct capture *capture, struct sk_buff *skb, u64 address,
				u32 reason)
{
	struct seen now = {
		.address = address,
		.device = address_of(capture->dev),
		.fingerprint = CAPTURE_FIRST ? header_fingerprint(capture->l3) : 0,
	};
	int is_needed = CAPTURE_EVERY;

	if (CAPTURE_FIRST) {
		capture->is_first = is_first_event(skb, capture->head, SEEN_CAPTURE, &now);
		is_needed |= capture->is_first;
	}
	if (CAPTURE_AT_POINTS)
		is_needed |= is_capture_point(address, reason);
	return is_needed;
}

/*
 * Before Linux v6.3 ("bpf: teach refsafe() to take into account ID remapping") the verifier gives
 * each record that bpf_ringbuf_reserve() returns a reference id of its own on each path, so that
 * states never prune and every path is walked to its end. So merge the paths before the record is
 * reserved: the decision is on the stack, and is read back from there by a helper, after which it
 * is unknown on all paths alike.
 */
ALWAYS_INLINE void merge_verifier_paths(struct capture *capture)
{
	bpf_probe_read_kernel(capture, sizeof(*capture), capture);
}

/*
 * Decide what to capture at this event, and remember that in `seen`. To be called before the record
 * is reserved.
 */
ALWAYS_INLINE void decide_capture(struct capture *capture, struct sk_buff *skb, u64 address,
				  u32 reason)
{
	locate_packet_data(capture, skb);
	if (capture->layer && !needs_capture(capture, skb, address, reason))
		capture->layer = 0;
	merge_verifier_paths(capture);
}

/* skb->pkt_type: PACKET_*. */
ALWAYS_INLINE u8 packet_type(struct sk_buff *skb)
{
	u8 bits = 0;

	READ(bits, MEMBER(skb, sk_buff, pkt_type));
	return bits >> BIT_sk_buff_pkt_type & 7;
}

/* Write the chunks, and the part of the record. */
ALWAYS_INLINE void write_capture(struct event *event, struct capture *capture,
				 struct pieces *pieces)
{
	struct part_bytes *part = PART(event, bytes);
	struct counters *counters = this_cpu_counters();
	u32 requested = capture->len < SNAPLEN ? capture->len : SNAPLEN;

	if (!counters)
		return;
	pieces->remaining = requested;
	write_chunks(event, pieces);
	__sync_fetch_and_add(&counters->capture_requested, 1);
	if (pieces->error == CHUNK_NO_ROOM && pieces->remaining == requested) {
		__sync_fetch_and_add(&counters->capture_no_room, 1);
		return;
	}
	part->len = capture->len;
	part->caplen = requested - pieces->remaining;
	part->lost = counters->capture_no_room;
	part->device = capture->device_type;
	part->layer = capture->layer;
	part->first = capture->is_first;
}

/*
 * Capture the packet data of an sk_buff. The loop comes last: behind it the memory of small
 * variables would be used again, and the verifier would walk the loop once for each of their
 * states.
 */
ALWAYS_INLINE void capture_skb(struct event *event, struct capture *capture, struct sk_buff *skb)
{
	struct part_bytes *part = PART(event, bytes);
	struct pieces pieces = { .at = capture->start, .size = capture->linear };

	if (!capture->layer)
		return;
	part->tag = accelerated_tag(skb);
	part->type = packet_type(skb);
	READ(part->queue, MEMBER(skb, sk_buff, queue_mapping));
	pieces.skb = frag_list_of(enter_fragments(&pieces, skb));
	write_capture(event, capture, &pieces);
}

/* Count a capture that is lost because its record has no room in the ring. */
ALWAYS_INLINE void count_capture_lost(struct counters *counters, struct capture *capture)
{
	if (!capture->layer)
		return;
	__sync_fetch_and_add(&counters->capture_requested, 1);
	__sync_fetch_and_add(&counters->capture_no_room, 1);
}

#else

ALWAYS_INLINE void decide_capture(struct capture *capture, struct sk_buff *skb, u64 address,
				  u32 reason)
{
}
ALWAYS_INLINE void capture_skb(struct event *event, struct capture *capture, struct sk_buff *skb) {}
ALWAYS_INLINE void count_capture_lost(struct counters *counters, struct capture *capture) {}

#endif
#endif
