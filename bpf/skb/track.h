/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets that are traced without being matched again: by their address (--filter-track-skb), by
 * the stack on which one is being handled (--filter-track-skb-by-stackid), and across XDP by the
 * memory that a frame and its sk_buff share.
 *
 * The address of an sk_buff is reused after its free. Hooks report each new sk_buff before any
 * other probe sees it:
 * __copy_skb_header() for clones, copies, segments and what veth makes for XDP; __alloc_skb() and
 * __build_skb_around() for all others (trace.bpf.c has the probes). So an entry that is removed
 * late (of an sk_buff that is freed to a cache of NAPI) never matches the wrong packet; the hooks
 * on frees only keep the map small.
 */
#ifndef PYPWRU_SKB_TRACK_H
#define PYPWRU_SKB_TRACK_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "context.h"
#include "nft/verdict_map.h"
#include "skb/packet_ids.h"

/*
 * skb->head, or xdp_buff.data_hard_start, to the sk_buff that has this memory, or to the time since
 * when an XDP program's frame has it: (ktime << 1) | 1. A frame that no sk_buff was made of may be
 * gone, and its page reused for another: its entry is valid for FRAME_LIFETIME.
 */
ALWAYS_INLINE int is_frame_owner(u64 owner)
{
	return owner & 1;
}

ALWAYS_INLINE int head_is_tracked(u64 head)
{
	u64 *owner = bpf_map_lookup_elem(MAP_head_owners, &head);

	if (!owner)
		return 0;
	return !is_frame_owner(*owner) || bpf_ktime_get_ns() - (*owner >> 1) < FRAME_LIFETIME;
}

ALWAYS_INLINE void track_head(u64 head, u64 owner)
{
	if (head)
		bpf_map_update_elem(MAP_head_owners, &head, &owner, 0);
}

/* `frame` is the memory of an XDP program's frame. */
ALWAYS_INLINE void track_frame(u64 frame)
{
	track_head(frame, bpf_ktime_get_ns() << 1 | 1);
}

ALWAYS_INLINE void untrack_head(struct sk_buff *skb)
{
	u64 head = KREAD(skb, sk_buff, head);
	u64 *owner = bpf_map_lookup_elem(MAP_head_owners, &head);

	if (owner && *owner == address_of(skb))
		bpf_map_delete_elem(MAP_head_owners, &head);
}

ALWAYS_INLINE int is_tracked(struct sk_buff *skb)
{
	return bpf_map_lookup_elem(MAP_tracked, &skb) != NULL;
}

ALWAYS_INLINE void track(struct sk_buff *skb)
{
	u64 present = 1;

	if (!bpf_map_update_elem(MAP_tracked, &skb, &present, BPF_NOEXIST))
		INC_COUNTER(tracked_added);
	if (TRACK_HEADS)
		track_head(KREAD(skb, sk_buff, head), address_of(skb));
}

/* The address no longer, or not yet, belongs to a tracked packet. */
ALWAYS_INLINE void untrack(struct sk_buff *skb)
{
	if (!bpf_map_delete_elem(MAP_tracked, &skb)) {
		INC_COUNTER(tracked_removed);
		if (TRACK_HEADS)
			untrack_head(skb);
	}
}

/*
 * Key of a stack: the address of the current task, plus one if the stack is not the task's own but
 * an interrupt's.
 */
#define STACK_SIZE 16384 /* THREAD_SIZE of x86-64, and of arm64 with pages of 4 KiB */

ALWAYS_INLINE u64 stack_key(u64 sp)
{
	u64 task = bpf_get_current_task();
	u64 start = KREAD((struct task_struct *)task, task_struct, stack);

	return sp - start < STACK_SIZE ? task : task + 1;
}

/*
 * For each stack: the last packet that matched, and the stack pointer of the outermost function
 * that had it. What is called from there is deeper. Needs no frame pointers, which most kernels
 * lack.
 */
struct stack_entry {
	struct sk_buff *skb;
	u64 sp; /* stack pointer */
};
ASSERT_VALUE_SIZE(stack_skb, struct stack_entry);

/* The packet that is being handled further out on this stack, or NULL. */
ALWAYS_INLINE struct sk_buff *skb_on_stack(u64 sp)
{
	u64 stack = stack_key(sp);
	struct stack_entry *entry = bpf_map_lookup_elem(MAP_stack_skb, &stack);

	return entry && sp < entry->sp ? entry->skb : NULL;
}

ALWAYS_INLINE void clear_stack(struct sk_buff *skb, u64 stack)
{
	struct stack_entry *entry = bpf_map_lookup_elem(MAP_stack_skb, &stack);

	if (entry && entry->skb == skb)
		bpf_map_delete_elem(MAP_stack_skb, &stack);
}

ALWAYS_INLINE void set_skb_on_stack(struct sk_buff *skb, u64 sp)
{
	u64 stack = stack_key(sp);
	struct stack_entry now = { .skb = skb, .sp = sp };
	struct stack_entry *before = bpf_map_lookup_elem(MAP_stack_skb, &stack);
	u64 *elsewhere = bpf_map_lookup_elem(MAP_skb_stack, &skb);

	if (elsewhere && *elsewhere != stack)
		clear_stack(skb, *elsewhere);
	if (before && before->skb == skb && before->sp > sp)
		return;
	bpf_map_update_elem(MAP_stack_skb, &stack, &now, 0);
	bpf_map_update_elem(MAP_skb_stack, &skb, &stack, 0);
}

ALWAYS_INLINE void clear_skb_on_stack(struct sk_buff *skb)
{
	u64 *stack = bpf_map_lookup_elem(MAP_skb_stack, &skb);

	if (!stack)
		return;
	clear_stack(skb, *stack);
	bpf_map_delete_elem(MAP_skb_stack, &skb);
}

/* A new sk_buff, not made of another: its address may be that of a freed one. */
ALWAYS_INLINE void on_skb_alloc(struct sk_buff *skb)
{
	if (TRACK_SKB)
		untrack(skb);
	if (NFT)
		remove_verdict(skb);
	remove_seen(skb);
}

/* `made` is a clone, copy or segment of `from`, or a fragment. */
ALWAYS_INLINE void on_skb_copy(struct sk_buff *made, struct sk_buff *from)
{
	if (TRACK_SKB && is_tracked(from))
		track(made);
	else if (TRACK_SKB)
		untrack(made);
	if (NFT)
		copy_verdict(made, from);
	copy_seen(made, from);
}

/* An sk_buff is freed. */
ALWAYS_INLINE void on_skb_free(struct sk_buff *skb)
{
	if (NFT)
		remove_verdict(skb);
	remove_seen(skb);
	if (TRACK_SKB)
		untrack(skb);
	if (TRACK_STACK)
		clear_skb_on_stack(skb);
}

#endif
