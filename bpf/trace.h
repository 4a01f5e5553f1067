/* SPDX-License-Identifier: GPL-2.0 */
/* From a hit to a record on the ring: which packets match, and what is written of them. */
#ifndef __PYPWRU_TRACE_H
#define __PYPWRU_TRACE_H

#include "helpers.h"
#include "event.h"
#include "filter.h"
#include "flow.h"
#include "tail.h"
#include "track.h"
#include "capture.h"
#include "capture_xdp.h"
#include "limits.h"
#include "ring.h"

/* A hit; all of it constant or in a register. */
struct sight {
	void *ctx;
	u64 packet;  /* address of the sk_buff, or of the xdp_buff */
	u64 address; /* of the function, or the number of the target */
	u64 reason;
	u64 caller;
	u64 depth;   /* stack pointer */
	u32 kind;
	u32 is_freed; /* the packet's data is freed already */
};

/*
 * Identifies the program that the current task runs, in case its pid and name belong to another by the time that they
 * are looked up: where its stack begins, which execve() randomizes (ASLR). Without an mm: when the process began, ns
 * since boot.
 */
ALWAYS_INLINE u64 start_stack(void)
{
	u64 task = bpf_get_current_task();
	u64 mm = read_u64(task + FIELD(task_struct, mm));

	if (mm)
		return read_u64(mm + FIELD(mm_struct, start_stack));
	task = read_u64(task + FIELD(task_struct, group_leader));
	return read_u64(task + FIELD(task_struct, start_boottime)) | 1ULL << NO_STACK_BIT;
}

/*
 * Reserve a record, and write all but the packet's own parts. Returns NULL if there is no room, which is counted, as is
 * the capture that is lost with it.
 */
ALWAYS_INLINE struct event *begin(struct sight sight, u64 skb, struct known *known, struct told *told,
				  struct counters *counters)
{
	struct event *event = bpf_ringbuf_reserve(MAP_events, WIRE_SIZE, 0);

	if (!event) {
		__sync_fetch_and_add(&counters->ring_full, 1);
		count_unheard(counters, told);
		return NULL;
	}
	event->skb = skb;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->cpu = bpf_get_smp_processor_id();
	event->kind = sight.kind;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->start_stack = start_stack();
	event->address = sight.address;
	event->reason = sight.reason;
	event->ktime = bpf_ktime_get_ns();
	fill_tail(event, sight.ctx, sight.caller);
#ifdef WIRE_identity
	((struct part_identity *)PART(event, identity))->packet = known->packet;
#endif
	return event;
}

ALWAYS_INLINE void write_skb(struct sight sight, u64 skb)
{
	struct known known = identify(skb, sight.address);
	struct counters *counters = admitted(sight.address, &known);
	struct told told = {};
	struct event *event;

	if (!counters)
		return;
	if (!sight.is_freed)
		choose(&told, skb, sight.address, sight.reason);
	event = begin(sight, skb, &known, &told, counters);
	if (!event)
		return;
	fill_flow(event, skb);
	fill_skb_tail(event, skb);
	tell_skb(event, &told, skb);
	submit(event);
}

/*
 * Whether an sk_buff is traced, in pwru's order: by its address, its memory, its stack, and only then by the filters,
 * which a tracked packet need not pass again.
 */
ALWAYS_INLINE int is_wanted(struct sight sight)
{
	u64 skb = sight.packet;

#if TRACK_SKB
	if (is_tracked(skb))
		goto known;
#if TRACK_HEADS
	if (head_is_tracked(read_u64(skb + FIELD(sk_buff, head))))
		goto found;
#endif
#endif
#if TRACK_STACK
	if (handled_at(sight.depth))
		return 1; /* another packet on the stack of one that matched: an event, but not tracked */
#endif
	if (!skb_passes(skb))
		return 0;
#if TRACK_SKB
found:
	track(skb);
known:
#endif
#if TRACK_STACK
	handle_at(skb, sight.depth);
#endif
	return 1;
}

ALWAYS_INLINE int trace_packet(struct sight sight)
{
	if (sight.packet && is_wanted(sight))
		write_skb(sight, sight.packet);
	return 0;
}

#if TRACE_XDP
ALWAYS_INLINE int trace_frame(struct sight sight)
{
	u64 frame = read_u64(sight.packet + FIELD(xdp_buff, data_hard_start));
	struct counters *counters;
	struct told told = {};
	struct known known;
	struct event *event;

#if TRACK_HEADS
	if (!head_is_tracked(frame) && !xdp_passes(sight.packet))
		return 0;
	track_head(frame, bpf_ktime_get_ns() << 1 | 1);
#else
	if (!xdp_passes(sight.packet))
		return 0;
#endif
	known = identify_frame(frame, read_u64(sight.packet + FIELD(xdp_buff, data)), sight.address);
	counters = admitted(sight.address, &known);
	if (!counters)
		return 0;
	choose_frame(&told, sight.packet, frame, sight.address);
	event = begin(sight, frame, &known, &told, counters);
	if (!event)
		return 0;
	fill_frame(event, sight.packet);
	fill_xdp_tail(event, sight.packet);
	tell_frame(event, &told, sight.packet);
	submit(event);
	return 0;
}
#endif

#endif
