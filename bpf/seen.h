/* SPDX-License-Identifier: GPL-2.0 */
/*
 * At which of its sights are the bytes of a packet told (--pcap-when)? At all of them; at the first; at those of
 * certain functions, and of all that say why they drop it.
 *
 * A packet that was seen is remembered by its address, which lives and dies as what is tracked does (track.h): what is
 * made of a packet that was seen counts as seen.
 */
#ifndef __PYPWRU_SEEN_H
#define __PYPWRU_SEEN_H

#include "helpers.h"
#include "event.h"
#include "flow.h"

#define EEXIST 17
#define FRAME_LIFE (10 * 1000000ULL) /* ns that a frame of an XDP program counts after it was seen */

#if CAPTURE_FIRST
VALUE_OF(seen, struct seen);

#if TRACE_XDP
/*
 * A frame of an XDP program is known by its memory, which is also that of the sk_buff that is made of it, or that it
 * was made of. Where it was first it is another one, and after a while anywhere, since nothing tells of its end.
 */
ALWAYS_INLINE int is_first_frame(u64 frame, u64 address)
{
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &frame);
	struct seen now = { address, 0, bpf_ktime_get_ns() };

	if (before && before->address != address && now.words - before->words < FRAME_LIFE)
		return 0;
	bpf_map_update_elem(MAP_seen, &frame, &now, 0);
	return 1;
}
#endif

#if BACKEND_TRACEPOINT
/*
 * Tracepoints tell neither of births nor of clones, and of few of TCP's deaths (__kfree_skb() has none). So what is
 * remembered goes by the memory, too, which a clone shares; and a packet that comes again to where it was first, or
 * that is another by these words of its headers, is a new one in old memory.
 */
#define ICMP 1
#define ICMPV6 58

/* The same wherever the packet is seen, and of TCP behind NAT, too; 0 for nothing. */
ALWAYS_INLINE u64 identity(u64 l3)
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

ALWAYS_INLINE int is_first(u64 skb, u64 head, struct seen *now)
{
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &skb);

	if (!before)
		before = bpf_map_lookup_elem(MAP_seen, &head);
	if (before && !(before->address == now->address && before->device == now->device) &&
	    !(before->words && now->words && before->words != now->words))
		return 0;
	bpf_map_update_elem(MAP_seen, &skb, now, 0);
	bpf_map_update_elem(MAP_seen, &head, now, 0);
	return 1;
}

#else
#define identity(l3) 0

/* Not two CPUs are told so of a packet. */
ALWAYS_INLINE int is_first(u64 skb, u64 head, struct seen *now)
{
	int first = 1;

	if (bpf_map_lookup_elem(MAP_seen, &skb))
		return 0;
#if TRACE_XDP
	first = is_first_frame(head, now->address);
#endif
	return bpf_map_update_elem(MAP_seen, &skb, now, BPF_NOEXIST) != -EEXIST && first;
}
#endif

ALWAYS_INLINE void forget_sight(u64 skb)
{
#if TRACE_XDP
	u64 head = read_u64(skb + FIELD(sk_buff, head));

	bpf_map_delete_elem(MAP_seen, &head);
#endif
	bpf_map_delete_elem(MAP_seen, &skb);
}

/* A clone, copy or segment is what it was made of. */
ALWAYS_INLINE void copy_sight(u64 made, u64 from)
{
	struct seen *before = bpf_map_lookup_elem(MAP_seen, &from);
	struct seen copy;

	if (!before) {
		forget_sight(made);
		return;
	}
	copy = *before;
	bpf_map_update_elem(MAP_seen, &made, &copy, 0);
#if TRACE_XDP
	is_first_frame(read_u64(made + FIELD(sk_buff, head)), 0); /* the copy that veth makes for XDP */
#endif
}

#else

ALWAYS_INLINE void forget_sight(u64 skb) {}
ALWAYS_INLINE void copy_sight(u64 made, u64 from) {}

#endif

#if CAPTURE_CHOSEN
/*
 * The map `chosen` has a word for each address at which packets are told, and under 0 one for all others that give a
 * reason: its bits are the reasons that are no drops.
 */
ALWAYS_INLINE int is_chosen(u64 address, u32 reason)
{
	u64 *harmless = bpf_map_lookup_elem(MAP_chosen, &address), others = 0;

	if (!harmless && reason)
		harmless = bpf_map_lookup_elem(MAP_chosen, &others);
	return harmless && (reason > 63 || !(*harmless >> reason & 1));
}
#endif

#endif
