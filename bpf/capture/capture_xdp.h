/* SPDX-License-Identifier: GPL-2.0 */
/* Packet data of an XDP program's frame, as capture/capture.h has it of an sk_buff. */
#ifndef PYPWRU_CAPTURE_CAPTURE_XDP_H
#define PYPWRU_CAPTURE_CAPTURE_XDP_H

#include "capture/capture.h"

#define XDP_FLAGS_HAS_FRAGS 1
#define CACHE_LINE 64ULL /* SMP_CACHE_BYTES of x86-64 and arm64 */

#if TRACE_XDP && CAPTURE

/*
 * Bytes of a frame in fragments, behind its linear area, which are not captured. Linux commit
 * 2e88d4ff0301 ("xdp: introduce flags field in xdp_buff/xdp_frame") (in v5.18).
 */
#ifdef FIELD_skb_shared_info_xdp_frags_size
ALWAYS_INLINE u32 xdp_frags_len(struct xdp_buff *xdp, u64 frame)
{
	/* xdp_get_shared_info_from_buff() */
	u64 shared_size = (SIZE_OF(skb_shared_info) + CACHE_LINE - 1) & -CACHE_LINE;

	struct skb_shared_info *shared;

	if (KREAD(xdp, xdp_buff, flags) & XDP_FLAGS_HAS_FRAGS) {
		shared = (void *)(frame + KREAD(xdp, xdp_buff, frame_sz) - shared_size);
		return KREAD(shared, skb_shared_info, xdp_frags_size);
	}
	return 0;
}
#else
ALWAYS_INLINE u32 xdp_frags_len(struct xdp_buff *xdp, u64 frame)
{
	return 0;
}
#endif

/* As decide_capture(). A frame begins with an Ethernet header. */
ALWAYS_INLINE void decide_frame_capture(struct capture *capture, struct xdp_buff *xdp, u64 frame,
					u64 address)
{
	u64 end = KREAD(xdp, xdp_buff, data_end);
	struct seen now = { .address = address };
	int is_needed = CAPTURE_EVERY;

	capture->start = KREAD(xdp, xdp_buff, data);
	capture->linear = end - capture->start;
	capture->len = capture->linear + xdp_frags_len(xdp, frame);
	capture->device_type = device_type_of(xdp_device(xdp));
	if (CAPTURE_FIRST) {
		capture->is_first = is_first_frame_event(frame, SEEN_CAPTURE, &now, NULL, 0);
		is_needed |= capture->is_first;
	}
	if (CAPTURE_AT_POINTS)
		is_needed |= is_capture_point(address, 0);
	if (is_needed && end > capture->start)
		capture->layer = 2;
	merge_verifier_paths(capture);
}

/* As capture_skb(). */
ALWAYS_INLINE void capture_frame(struct event *event, struct capture *capture, struct xdp_buff *xdp)
{
	struct part_bytes *part = PART(event, bytes);
	struct pieces pieces = { .at = capture->start, .size = capture->linear };
	struct xdp_rxq_info *rxq;

	if (!capture->layer)
		return;
	rxq = KREAD(xdp, xdp_buff, rxq);
	part->queue = KREAD(rxq, xdp_rxq_info, queue_index);
	write_capture(event, capture, &pieces);
}

#else

ALWAYS_INLINE void decide_frame_capture(struct capture *capture, struct xdp_buff *xdp, u64 frame,
					u64 address)
{
}
ALWAYS_INLINE void capture_frame(struct event *event, struct capture *capture, struct xdp_buff *xdp)
{
}

#endif
#endif
