/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is remembered of a packet from its first event on: its packet id and whether it is sampled (KNOWN), and that its
 * data was captured (TOLD, for --pcap-when first). Each has entries of its own in the map `seen`, since a packet may
 * get its id before it has data that can be captured.
 *
 * The key is the address of the sk_buff. Entries are added and removed by the hooks that track packets (track.h): what
 * is made of a packet with events (clones, copies, segments) is that packet.
 */
#ifndef __PYPWRU_SEEN_H
#define __PYPWRU_SEEN_H

#include "helpers.h"
#include "event.h"
#include "flow.h"
#include "identity.h"
#include "ends.h"

#define EEXIST 17
#define DATAREF_MASK 0xffff /* SKB_DATAREF_MASK */
#define FRAME_LIFE (10 * 1000000ULL) /* ns for which the entry of an XDP program's frame is valid */

/* Tags in the bits of a key that are 0 in an address. events/counters.py counts the sk_buffs with KNOWN. */
#define TOLD 0
#define KNOWN 1
#define FRAME 2 /* the key is the memory that a frame and its sk_buff share, not the sk_buff */

struct seen {
	u64 address; /* of the probe of the first event */
	u64 device;  /* address of skb->dev at that event */
	u64 words;   /* header fingerprint: words_of() */
	u64 since;   /* time of the first event of a frame; CLOCK_MONOTONIC, ns */
	struct known known;
};

#if CAPTURE_FIRST || IDENTIFY
VALUE_OF(seen, struct seen);

/* The first event of a packet. Either address may be 0. */
ALWAYS_INLINE void begin_packet(struct seen *now, u64 mark, u64 skb, u64 frame)
{
	if (mark == KNOWN)
		now->known = new_packet(ip_to_draw_by(skb, frame));
}

#if TRACE_XDP
/*
 * A frame of an XDP program is identified by its memory, which is also that of the sk_buff that is made of it, or that
 * it was made of. It is a new frame at the probe of its first event, and after FRAME_LIFE at any probe, since nothing
 * reports the end of a frame.
 */
ALWAYS_INLINE int is_first_frame(u64 memory, u64 mark, struct seen *now, u64 skb, u64 frame)
{
	u64 key = memory | mark | FRAME;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);

	now->since = bpf_ktime_get_ns();
	if (before && before->address != now->address && now->since - before->since < FRAME_LIFE) {
		now->known = before->known;
		return 0;
	}
	begin_packet(now, mark, skb, frame);
	bpf_map_update_elem(MAP_seen, &key, now, 0);
	return 1;
}
#endif

#if BACKEND_TRACEPOINT
/*
 * Tracepoints report neither allocations nor clones, and few of TCP's frees (__kfree_skb() has none). So there are also
 * entries by memory, which clones share, until its last user is freed. A packet that is again at the probe and device
 * of its first event, or that has another header fingerprint, is a new one in reused memory.
 */
#define ICMP 1
#define ICMPV6 58

/* Header fingerprint: the same wherever the packet is seen, for TCP behind NAT, too; 0 if there is none. */
ALWAYS_INLINE u64 words_of(u64 l3)
{
	u8 header[16] __attribute__((aligned(8)));
	u64 words = 0;
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
	READ(words, l3, protocol == PROTO_TCP ? 4 : 0); /* sequence and acknowledgement */
	if (protocol == PROTO_UDP)
		return words & 0xffffffffffffULL; /* ports and length */
	if (protocol == ICMP || protocol == ICMPV6)
		return words & 0xffffffff0000ffffULL; /* without the checksum */
	return protocol == PROTO_TCP ? words : 0;
}

/* Whether this is the packet's first event. Sets now->known, from the entry or for a new packet. */
ALWAYS_INLINE int is_first(u64 skb, u64 head, u64 mark, struct seen *now)
{
	u64 key = skb | mark, memory = head | mark | FRAME;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);

	if (!before)
		before = bpf_map_lookup_elem(MAP_seen, &memory);
	if (before && !(before->address == now->address && before->device == now->device) &&
	    !(before->words && now->words && before->words != now->words)) {
		now->known = before->known;
		return 0;
	}
	begin_packet(now, mark, skb, 0);
	bpf_map_update_elem(MAP_seen, &key, now, 0);
	bpf_map_update_elem(MAP_seen, &memory, now, 0);
	return 1;
}

/* Device and header fingerprint of an sk_buff, by which is_first() recognizes it. */
ALWAYS_INLINE struct seen place_of(u64 skb, u64 address, u64 *head)
{
	struct seen now = { address, read_u64(skb + FIELD(sk_buff, dev)) };
	struct headers at;

	if (!read_headers(skb, &at))
		return now;
	*head = at.head;
	if (at.network || at.mac != MAC_HEADER_UNSET)
		now.words = words_of(at.head + (at.network ? at.network : at.mac + ETHERNET_HEADER));
	return now;
}

#else
#define words_of(l3) 0

/* As above, by the sk_buff alone. At most one CPU gets 1 for a packet. */
ALWAYS_INLINE int is_first(u64 skb, u64 head, u64 mark, struct seen *now)
{
	u64 key = skb | mark;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key);
	int first = 1;
	long failed;

	if (before) {
		now->known = before->known;
		return 0;
	}
#if TRACE_XDP
	first = is_first_frame(head, mark, now, skb, 0);
#else
	begin_packet(now, mark, skb, 0);
#endif
	failed = bpf_map_update_elem(MAP_seen, &key, now, BPF_NOEXIST);
	if (!failed && mark == KNOWN)
		COUNT(remembered);
	if (failed == -EEXIST) {
		before = bpf_map_lookup_elem(MAP_seen, &key);
		if (before)
			now->known = before->known;
		return 0;
	}
	return first;
}

ALWAYS_INLINE struct seen place_of(u64 skb, u64 address, u64 *head)
{
	struct seen now = { address };

#if TRACE_XDP
	*head = read_u64(skb + FIELD(sk_buff, head));
#endif
	return now;
}
#endif

/* The address no longer, or not yet, belongs to a packet with events. */
ALWAYS_INLINE void forget_mark(u64 skb, u64 mark)
{
	u64 key = skb | mark;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key); /* cheaper than deleting a key that isn't there */

	if (!before)
		return;
	if (mark == KNOWN && !before->known.is_out)
		write_end(skb, before->known.packet);
	if (!bpf_map_delete_elem(MAP_seen, &key) && mark == KNOWN)
		COUNT(released);
}

/* A clone, copy or segment has the entry of what it was made of. */
ALWAYS_INLINE void copy_mark(u64 made, u64 from, u64 mark)
{
	u64 key = from | mark;
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &key), *stale;
	struct seen copy;

	forget_mark(made, mark);
	if (!before)
		return;
	copy = *before;
	key = made | mark;
	if (!bpf_map_update_elem(MAP_seen, &key, &copy, 0) && mark == KNOWN)
		COUNT(remembered);
#if TRACE_XDP
	copy.address = 0; /* the copy that veth makes for XDP */
	copy.since = bpf_ktime_get_ns();
	key = read_u64(made + FIELD(sk_buff, head)) | mark | FRAME;
	stale = bpf_map_lookup_elem(MAP_seen, &key);
	if (!stale || copy.since - stale->since >= FRAME_LIFE)
		bpf_map_update_elem(MAP_seen, &key, &copy, 0);
#endif
}

ALWAYS_INLINE void forget_memory(u64 skb, u64 mark)
{
#if BACKEND_TRACEPOINT || TRACE_XDP
	u64 head = read_u64(skb + FIELD(sk_buff, head)), key = head | mark | FRAME;
#if BACKEND_TRACEPOINT
	u64 shared = head + read_u32(skb + FIELD(sk_buff, end));

	if ((read_u32(shared + FIELD(skb_shared_info, dataref)) & DATAREF_MASK) > 1)
		return; /* a clone has it, too */
#endif
	bpf_map_delete_elem(MAP_seen, &key);
#endif
}

#endif

/* A statement about a tag, if the run uses the tag. */
#if IDENTIFY
#define OF_KNOWN(done) done
#else
#define OF_KNOWN(done)
#endif
#if CAPTURE_FIRST
#define OF_TOLD(done) done
#else
#define OF_TOLD(done)
#endif

ALWAYS_INLINE void forget_sight(u64 skb)
{
	OF_TOLD(forget_mark(skb, TOLD));
	OF_TOLD(forget_memory(skb, TOLD));
	OF_KNOWN(forget_mark(skb, KNOWN));
	OF_KNOWN(forget_memory(skb, KNOWN));
}

ALWAYS_INLINE void copy_sight(u64 made, u64 from)
{
	OF_TOLD(copy_mark(made, from, TOLD));
	OF_KNOWN(copy_mark(made, from, KNOWN));
}

/* The packet id of an sk_buff that matches. */
ALWAYS_INLINE struct known identify(u64 skb, u64 address)
{
#if IDENTIFY
	u64 head = 0;
	struct seen now = place_of(skb, address, &head);

	is_first(skb, head, KNOWN, &now);
	/* Merge all paths to here, as decided() of capture.h does. */
	bpf_probe_read_kernel(&now.known, sizeof(now.known), &now.known);
	return now.known;
#else
	return (struct known){};
#endif
}

#if TRACE_XDP
/* The packet id of an XDP program's frame, whose first byte is at `data`. */
ALWAYS_INLINE struct known identify_frame(u64 memory, u64 data, u64 address)
{
#if IDENTIFY
	struct seen now = { address };

	is_first_frame(memory, KNOWN, &now, 0, data);
	bpf_probe_read_kernel(&now.known, sizeof(now.known), &now.known);
	return now.known;
#else
	return (struct known){};
#endif
}
#endif

#endif
