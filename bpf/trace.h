/* SPDX-License-Identifier: GPL-2.0 */
/* From a hit to a record on the ring: which packets match, and what is written of them. */
#ifndef __PYPWRU_TRACE_H
#define __PYPWRU_TRACE_H

#include "helpers.h"
#include "event.h"
#include "match/filter.h"
#include "flow.h"
#include "parts.h"
#include "skb/track.h"
#include "capture/capture.h"
#include "capture/capture_xdp.h"
#include "match/rate.h"
#include "ring.h"

/* A hit; all of it constant or in a register. */
struct hit {
	void *ctx;
	u64 target; /* address of the function, or the number of the target */
	u64 reason;
	u64 caller;
	u64 sp; /* stack pointer */
	u32 kind;
	u32 is_freed; /* the packet's data is freed already */
};

/*
 * Identifies the program that the current task runs, in case its pid and name belong to another by
 * the time that they are looked up: where its stack begins, which execve() randomizes (ASLR).
 * Without an mm: when the process began, ns since boot.
 */
ALWAYS_INLINE u64 current_start_stack(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct mm_struct *mm = KREAD(task, task_struct, mm);

	if (mm)
		return KREAD(mm, mm_struct, start_stack);
	task = KREAD(task, task_struct, group_leader);
	return KREAD(task, task_struct, start_boottime) | 1ULL << NO_MM_BIT;
}

/*
 * Reserve a record, and write all but the packet's own parts. `packet` is the address that
 * event.skb has. Returns NULL if there is no room, which is counted, as is the capture that is lost
 * with it.
 */
ALWAYS_INLINE struct event *reserve_event(struct hit hit, u64 packet, struct packet_id *packet_id,
					  struct capture *capture, struct counters *counters)
{
	struct event *event = bpf_ringbuf_reserve(MAP_events, WIRE_SIZE, 0);
	struct part_packet_id *part;

	if (!event) {
		__sync_fetch_and_add(&counters->ring_full, 1);
		count_capture_lost(counters, capture);
		return NULL;
	}
	event->skb = packet;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->cpu = bpf_get_smp_processor_id();
	event->kind = hit.kind;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->start_stack = current_start_stack();
	event->address = hit.target;
	event->reason = hit.reason;
	event->ktime = bpf_ktime_get_ns();
	fill_tail(event, hit.ctx, hit.caller);
	part = PART(event, packet_id);
	if (HAS_PART(packet_id))
		part->id = packet_id->id;
	return event;
}

ALWAYS_INLINE void write_skb_event(struct hit hit, struct sk_buff *skb)
{
	struct packet_id packet_id = lookup_packet_id(skb, hit.target);
	struct counters *counters = admit_event(hit.target, &packet_id);
	struct capture capture = {};
	struct event *event;

	if (!counters)
		return;
	if (!hit.is_freed)
		decide_capture(&capture, skb, hit.target, hit.reason);
	event = reserve_event(hit, address_of(skb), &packet_id, &capture, counters);
	if (!event)
		return;
	fill_flow(event, skb);
	fill_skb_tail(event, skb);
	capture_skb(event, &capture, skb);
	submit_event(event);
}

/*
 * Whether an sk_buff is traced, in pwru's order: by its address, its memory, its stack, and only
 * then by the filters, which a tracked packet need not pass again.
 */
ALWAYS_INLINE int is_match(struct hit hit, struct sk_buff *skb)
{
	if (!(TRACK_SKB && is_tracked(skb))) {
		if (!(TRACK_HEADS && head_is_tracked(KREAD(skb, sk_buff, head)))) {
			/* On the stack of a packet that matched: an event, but not tracked. */
			if (TRACK_STACK && skb_on_stack(hit.sp))
				return 1;
			if (!skb_matches(skb))
				return 0;
		}
		if (TRACK_SKB)
			track(skb);
	}
	if (TRACK_STACK)
		set_skb_on_stack(skb, hit.sp);
	return 1;
}

ALWAYS_INLINE int handle_skb(struct hit hit, struct sk_buff *skb)
{
	if (skb && is_match(hit, skb))
		write_skb_event(hit, skb);
	return 0;
}

#if TRACE_XDP
ALWAYS_INLINE int handle_frame(struct hit hit, struct xdp_buff *xdp)
{
	u64 frame = KREAD(xdp, xdp_buff, data_hard_start);
	struct counters *counters;
	struct capture capture = {};
	struct packet_id packet_id;
	struct event *event;

	if (!(TRACK_HEADS && head_is_tracked(frame)) && !xdp_matches(xdp))
		return 0;
	if (TRACK_HEADS)
		track_frame(frame);
	packet_id = lookup_frame_id(frame, KREAD(xdp, xdp_buff, data), hit.target);
	counters = admit_event(hit.target, &packet_id);
	if (!counters)
		return 0;
	decide_frame_capture(&capture, xdp, frame, hit.target);
	event = reserve_event(hit, frame, &packet_id, &capture, counters);
	if (!event)
		return 0;
	fill_xdp_flow(event, xdp);
	fill_xdp_tail(event, xdp);
	capture_frame(event, &capture, xdp);
	submit_event(event);
	return 0;
}
#endif

#endif
