/* SPDX-License-Identifier: GPL-2.0 */
/* Packet data of an XDP program's frame, as capture.h has it of an sk_buff. */
#ifndef __PYPWRU_CAPTURE_XDP_H
#define __PYPWRU_CAPTURE_XDP_H

#include "capture.h"

#define XDP_FLAGS_HAS_FRAGS 1
#define CACHE_LINE 64ULL /* SMP_CACHE_BYTES of x86-64 and arm64 */

#if TRACE_XDP && CAPTURE

/*
 * Bytes of a frame in fragments, behind its linear area, which are not captured. Linux commit 2e88d4ff0301 ("xdp:
 * introduce flags field in xdp_buff/xdp_frame") (in v5.18).
 */
ALWAYS_INLINE u32 in_fragments(u64 xdp, u64 frame)
{
#ifdef FIELD_skb_shared_info_xdp_frags_size
	/* xdp_get_shared_info_from_buff() */
	u64 shared = (SIZE_OF(skb_shared_info) + CACHE_LINE - 1) & -CACHE_LINE;

	if (read_u32(xdp + OPTIONAL_FIELD(xdp_buff, flags)) & XDP_FLAGS_HAS_FRAGS)
		return read_u32(frame + read_u32(xdp + OPTIONAL_FIELD(xdp_buff, frame_sz)) - shared +
				OPTIONAL_FIELD(skb_shared_info, xdp_frags_size));
#endif
	return 0;
}

/* As choose(). A frame begins with an Ethernet header. */
ALWAYS_INLINE void choose_frame(struct told *told, u64 xdp, u64 frame, u64 address)
{
	u64 end = read_u64(xdp + FIELD(xdp_buff, data_end));
	struct seen now = { address };
	int is_told = CAPTURE_EVERY;

	told->start = read_u64(xdp + FIELD(xdp_buff, data));
	told->linear = end - told->start;
	told->len = told->linear + in_fragments(xdp, frame);
	told->device = type_of_device(xdp_device(xdp));
#if CAPTURE_FIRST
	told->first = is_first_frame(frame, TOLD, &now, 0, 0);
	is_told |= told->first;
#endif
#if CAPTURE_CHOSEN
	is_told |= is_chosen(address, 0);
#endif
	if (is_told && end > told->start)
		told->layer = 2;
	decided(told);
}

/* As tell_skb(). */
ALWAYS_INLINE void tell_frame(struct event *event, struct told *told, u64 xdp)
{
	struct part_bytes *part = PART(event, bytes);
	struct pieces pieces = { told->start, told->linear };

	if (!told->layer)
		return;
	tell_pieces(event, told, &pieces);
	if (part->layer)
		part->queue = read_u32(read_u64(xdp + FIELD(xdp_buff, rxq)) + FIELD(xdp_rxq_info, queue_index));
}

#else

ALWAYS_INLINE void choose_frame(struct told *told, u64 xdp, u64 frame, u64 address) {}
ALWAYS_INLINE void tell_frame(struct event *event, struct told *told, u64 xdp) {}

#endif
#endif
