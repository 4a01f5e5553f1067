/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is remembered of a packet from its first event on: its packet id and whether it is sampled
 * (SEEN_ID), and that its data was captured (SEEN_CAPTURE, for --pcap-when first). Each has entries
 * of its own in the map `seen`, since a packet may get its id before it has data that can be
 * captured.
 *
 * The key is the address of the sk_buff. Entries are added and removed by the hooks that track
 * packets (skb/track.h): what is made of a packet with events (clones, copies, segments) is that
 * packet.
 */
#ifndef PYPWRU_SKB_PACKET_IDS_H
#define PYPWRU_SKB_PACKET_IDS_H

#include "helpers.h"
#include "event.h"
#include "flow.h"
#include "skb/new_packet.h"
#include "skb/skb_free.h"

#define EEXIST 17
#define DATAREF_MASK 0xffff /* SKB_DATAREF_MASK */
/* Time for which the entry of an XDP program's frame is valid, in ns. */
#define FRAME_LIFETIME (10 * 1000000ULL)

/*
 * Tags in the bits of a key that are 0 in an address. ring/counters.py counts the sk_buffs with
 * SEEN_ID.
 */
/*
 * Added to an address, whose last three bits are 0: the verifier refuses bitwise operators on a
 * pointer, which the argument of a tracing program is.
 */
#define SEEN_CAPTURE 0
#define SEEN_ID 1
#define SEEN_XDP 2 /* the key is the memory that a frame and its sk_buff share, not the sk_buff */

struct seen {
	u64 address;	 /* of the probe of the first event */
	u64 device;	 /* address of skb->dev at that event */
	u64 fingerprint; /* header fingerprint: header_fingerprint() */
	u64 ktime;	 /* time of the first event of a frame; CLOCK_MONOTONIC, ns */
	struct packet_id packet_id;
};
ASSERT_VALUE_SIZE(seen, struct seen);

/* Address of the IP header, from which a flow is sampled; 0 if there is none. */
#define IP_FOR_SAMPLING(skb, frame) \
	(!SAMPLE_FLOWS ? 0 : (skb) ? ip_of_skb(skb) : ip_of_frame(frame))

/* The first event of a packet. Either of sk_buff and frame may be 0. */
ALWAYS_INLINE void assign_id_if_tagged(struct seen *now, u64 tag, struct sk_buff *skb, u64 frame)
{
	if (tag == SEEN_ID)
		now->packet_id = assign_packet_id(IP_FOR_SAMPLING(skb, frame));
}

/*
 * A frame of an XDP program is identified by its memory, which is also that of the sk_buff that is
 * made of it, or that it was made of. It is a new frame at the probe of its first event, and after
 * FRAME_LIFETIME at any probe, since nothing reports the end of a frame.
 */
ALWAYS_INLINE int is_first_frame_event(u64 memory, u64 tag, struct seen *now, struct sk_buff *skb,
				       u64 frame)
{
	u64 key = memory + tag + SEEN_XDP;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);

	now->ktime = bpf_ktime_get_ns();
	if (before && before->address != now->address &&
	    now->ktime - before->ktime < FRAME_LIFETIME) {
		now->packet_id = before->packet_id;
		return 0;
	}
	assign_id_if_tagged(now, tag, skb, frame);
	bpf_map_update_elem(MAP_seen, &key, now, 0);
	return 1;
}

#if BACKEND_TRACEPOINT
/*
 * Tracepoints report neither allocations nor clones, and few of TCP's frees (__kfree_skb() has
 * none). So there are also entries by memory, which clones share, until its last user is freed. A
 * packet that is again at the probe and device of its first event, or that has another header
 * fingerprint, is a new one in reused memory.
 */
#define ICMP 1
#define ICMPV6 58

/*
 * Header fingerprint: the same wherever the packet is seen, for TCP behind NAT, too; 0 if there is
 * none.
 */
ALWAYS_INLINE u64 header_fingerprint(u64 l3)
{
	u8 header[16] __attribute__((aligned(8)));
	u64 fingerprint = 0;
	u8 protocol;

	if (bpf_probe_read_kernel(header, sizeof(header), (void *)l3))
		return 0;
	if (header[0] >> 4 == 4) {
		protocol = header[9];
		l3 += (header[0] & 0xf) * 4;
	} else if (header[0] >> 4 == 6) {
		protocol = header[6];
		l3 += IPV6_HEADER;
	} else {
		return *(u64 *)header ^ *(u64 *)(header + 8) << 1;
	}
	/* TCP: sequence and acknowledgement */
	READ(fingerprint, l3 + (protocol == PROTO_TCP ? 4 : 0));
	if (protocol == PROTO_UDP)
		return fingerprint & 0xffffffffffffULL; /* ports and length */
	if (protocol == ICMP || protocol == ICMPV6)
		return fingerprint & 0xffffffff0000ffffULL; /* without the checksum */
	return protocol == PROTO_TCP ? fingerprint : 0;
}

/*
 * Whether this is the packet's first event. Sets now->packet_id, from the entry or for a new
 * packet.
 */
ALWAYS_INLINE int is_first_event(struct sk_buff *skb, u64 head, u64 tag, struct seen *now)
{
	u64 key = address_of(skb) + tag, memory = head + tag + SEEN_XDP;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);

	if (!before)
		before = bpf_map_lookup_elem(MAP_seen, &memory);
	if (before && !(before->address == now->address && before->device == now->device) &&
	    !(before->fingerprint && now->fingerprint && before->fingerprint != now->fingerprint)) {
		now->packet_id = before->packet_id;
		return 0;
	}
	assign_id_if_tagged(now, tag, skb, 0);
	bpf_map_update_elem(MAP_seen, &key, now, 0);
	bpf_map_update_elem(MAP_seen, &memory, now, 0);
	return 1;
}

/* Device and header fingerprint of an sk_buff, by which is_first_event() recognizes it. */
ALWAYS_INLINE struct seen fingerprint_of(struct sk_buff *skb, u64 address, u64 *head)
{
	struct seen now = { .address = address, .device = address_of(KREAD(skb, sk_buff, dev)) };
	struct headers at;

	if (!read_headers(skb, &at))
		return now;
	*head = at.head;
	if (at.network || at.mac != MAC_HEADER_UNSET)
		now.fingerprint = header_fingerprint(
			at.head + (at.network ? at.network : at.mac + ETHERNET_HEADER));
	return now;
}

#else
ALWAYS_INLINE u64 header_fingerprint(u64 l3)
{
	return 0;
}

/* As above, by the sk_buff alone. At most one CPU gets 1 for a packet. */
ALWAYS_INLINE int is_first_event(struct sk_buff *skb, u64 head, u64 tag, struct seen *now)
{
	u64 key = address_of(skb) + tag;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);
	int first = 1;
	long failed;

	if (before) {
		now->packet_id = before->packet_id;
		return 0;
	}
	if (TRACE_XDP)
		first = is_first_frame_event(head, tag, now, skb, 0);
	else
		assign_id_if_tagged(now, tag, skb, 0);
	failed = bpf_map_update_elem(MAP_seen, &key, now, BPF_NOEXIST);
	if (!failed && tag == SEEN_ID)
		INC_COUNTER(id_inserted);
	if (failed == -EEXIST) {
		before = bpf_map_lookup_elem(MAP_seen, &key);
		if (before)
			now->packet_id = before->packet_id;
		return 0;
	}
	return first;
}

ALWAYS_INLINE struct seen fingerprint_of(struct sk_buff *skb, u64 address, u64 *head)
{
	struct seen now = { .address = address };

	if (TRACE_XDP)
		*head = KREAD(skb, sk_buff, head);
	return now;
}
#endif

/* The address no longer, or not yet, belongs to a packet with events. */
ALWAYS_INLINE void remove_seen_tag(struct sk_buff *skb, u64 tag)
{
	u64 key = address_of(skb) + tag;
	/* Cheaper than deleting a key that isn't there. */
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);

	if (!before)
		return;
	if (FREE_RECORDS && tag == SEEN_ID && !before->packet_id.is_sampled_out)
		write_free_record(skb, before->packet_id.id);
	if (!bpf_map_delete_elem(MAP_seen, &key) && tag == SEEN_ID)
		INC_COUNTER(id_removed);
}

/* Whether memory has no entry of an XDP program's frame that is still valid when `now` is made. */
ALWAYS_INLINE int frame_has_expired(u64 *key, struct seen *now)
{
	struct seen *frame = bpf_map_lookup_elem(MAP_seen, key);

	return !frame || now->ktime - frame->ktime >= FRAME_LIFETIME;
}

/* A clone, copy or segment has the entry of what it was made of. */
ALWAYS_INLINE void copy_seen_tag(struct sk_buff *made, struct sk_buff *from, u64 tag)
{
	u64 key = address_of(from) + tag;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);
	struct seen copy;

	remove_seen_tag(made, tag);
	if (!before)
		return;
	copy = *before;
	key = address_of(made) + tag;
	if (!bpf_map_update_elem(MAP_seen, &key, &copy, 0) && tag == SEEN_ID)
		INC_COUNTER(id_inserted);
	if (!TRACE_XDP)
		return;
	copy.address = 0; /* the copy that veth makes for XDP */
	copy.ktime = bpf_ktime_get_ns();
	key = KREAD(made, sk_buff, head) + tag + SEEN_XDP;
	if (frame_has_expired(&key, &copy))
		bpf_map_update_elem(MAP_seen, &key, &copy, 0);
}

/* Whether entries with SEEN_XDP are made. */
#define HAS_MEMORY_ENTRIES (BACKEND_TRACEPOINT || TRACE_XDP)

/* Whether a clone has the memory, too. */
ALWAYS_INLINE int has_shared_data(struct sk_buff *skb, u64 head)
{
	struct skb_shared_info *shared = (void *)(head + KREAD(skb, sk_buff, end));

	return (KREAD(shared, skb_shared_info, dataref) & DATAREF_MASK) > 1;
}

/* As remove_seen_tag(), of the entry by memory. */
ALWAYS_INLINE void remove_seen_memory(struct sk_buff *skb, u64 tag)
{
	u64 head = KREAD(skb, sk_buff, head), key = head + tag + SEEN_XDP;

	if (BACKEND_TRACEPOINT && has_shared_data(skb, head))
		return;
	bpf_map_delete_elem(MAP_seen, &key);
}

ALWAYS_INLINE void remove_seen(struct sk_buff *skb)
{
	if (CAPTURE_FIRST) {
		remove_seen_tag(skb, SEEN_CAPTURE);
		if (HAS_MEMORY_ENTRIES)
			remove_seen_memory(skb, SEEN_CAPTURE);
	}
	if (PACKET_IDS) {
		remove_seen_tag(skb, SEEN_ID);
		if (HAS_MEMORY_ENTRIES)
			remove_seen_memory(skb, SEEN_ID);
	}
}

ALWAYS_INLINE void copy_seen(struct sk_buff *made, struct sk_buff *from)
{
	if (CAPTURE_FIRST)
		copy_seen_tag(made, from, SEEN_CAPTURE);
	if (PACKET_IDS)
		copy_seen_tag(made, from, SEEN_ID);
}

#if PACKET_IDS
/* The packet id of an sk_buff that matches. */
ALWAYS_INLINE struct packet_id lookup_packet_id(struct sk_buff *skb, u64 address)
{
	u64 head = 0;
	struct seen now = fingerprint_of(skb, address, &head);

	is_first_event(skb, head, SEEN_ID, &now);
	/*
	 * Merge all paths to here, as merge_verifier_paths() of capture/capture.h does: all of
	 * `now`, since its memory is used again behind the reservation.
	 */
	bpf_probe_read_kernel(&now, sizeof(now), &now);
	return now.packet_id;
}

/* The packet id of an XDP program's frame, whose first byte is at `data`. */
ALWAYS_INLINE struct packet_id lookup_frame_id(u64 memory, u64 data, u64 address)
{
	struct seen now = { .address = address };

	is_first_frame_event(memory, SEEN_ID, &now, NULL, data);
	bpf_probe_read_kernel(&now.packet_id, sizeof(now.packet_id), &now.packet_id);
	return now.packet_id;
}

#else

ALWAYS_INLINE struct packet_id lookup_packet_id(struct sk_buff *skb, u64 address)
{
	return (struct packet_id){};
}

ALWAYS_INLINE struct packet_id lookup_frame_id(u64 memory, u64 data, u64 address)
{
	return (struct packet_id){};
}

#endif
#endif
