/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arguments of functions on BPF maps that are called while a packet is handled (--output-bpfmap).
 */
#ifndef PYPWRU_BPFMAP_CALLS_H
#define PYPWRU_BPFMAP_CALLS_H

#include "trace.h"

#if OUTPUT_BPFMAP

/* `key` and `value` are addresses; the value is 0 if there is none (yet). */
struct map_call {
	struct bpf_map *map;
	u64 key, value;
};

/*
 * A look-up that has not returned; its key is the stack that it is on: BPF programs on a stack
 * don't nest look-ups.
 */
struct pending_call {
	struct map_call call;
	struct sk_buff *skb;
	u64 address;
	u64 caller;
};
ASSERT_VALUE_SIZE(bpfmap_calls, struct pending_call);

ALWAYS_INLINE u32 min_u32(u32 size, u32 limit)
{
	return size < limit ? size : limit;
}

ALWAYS_INLINE int write_map_event(struct hit hit, struct sk_buff *skb, struct map_call call)
{
	struct packet_id packet_id = lookup_packet_id(skb, hit.target);
	struct counters *counters = admit_event(hit.target, &packet_id);
	struct capture capture = {};
	struct event *event;
	struct part_map *map;

	if (!counters)
		return 0;
	decide_capture(&capture, skb, hit.target, 0);
	event = reserve_event(hit, address_of(skb), &packet_id, &capture, counters);
	if (!event)
		return 0;
	fill_flow(event, skb);
	fill_skb_tail(event, skb);
	capture_skb(event, &capture, skb);
	map = PART(event, map);
	map->id = KREAD(call.map, bpf_map, id);
	map->key_size = KREAD(call.map, bpf_map, key_size);
	map->value_size = KREAD(call.map, bpf_map, value_size);
	map->pad = 0;
	__builtin_memset(map->name, 0, sizeof(map->name));
	bpf_probe_read_kernel(map->name, sizeof(map->name), MEMBER(call.map, bpf_map, name));
	__builtin_memset(map->key, 0, sizeof(map->key));
	__builtin_memset(map->value, 0, sizeof(map->value));
	bpf_probe_read_kernel(map->key, min_u32(map->key_size, sizeof(map->key)), (void *)call.key);
	if (call.value)
		bpf_probe_read_kernel(map->value, min_u32(map->value_size, sizeof(map->value)),
				      (void *)call.value);
	else
		map->value_size = 0;
	submit_event(event);
	return 0;
}

ALWAYS_INLINE int handle_map_call(struct hit hit, struct map_call call)
{
	struct sk_buff *skb = skb_on_stack(hit.sp);

	return skb ? write_map_event(hit, skb, call) : 0;
}

/* At the entry of a look-up: the value is known at its return. */
ALWAYS_INLINE int save_map_call(struct hit hit, struct map_call call)
{
	u64 stack = stack_key(hit.sp);
	struct pending_call pending = {
		.call = { .map = call.map, .key = call.key },
		.skb = skb_on_stack(hit.sp),
		.address = hit.target,
		.caller = hit.caller,
	};

	if (pending.skb)
		bpf_map_update_elem(MAP_bpfmap_calls, &stack, &pending, 0);
	return 0;
}

/* At the return of a look-up. */
ALWAYS_INLINE int handle_map_return(struct hit hit, u64 returned)
{
	u64 stack = stack_key(hit.sp);
	struct pending_call *pending = bpf_map_lookup_elem(MAP_bpfmap_calls, &stack);
	struct pending_call found;

	if (!pending)
		return 0;
	found = *pending;
	bpf_map_delete_elem(MAP_bpfmap_calls, &stack);
	hit.target = found.address;
	hit.caller = found.caller;
	found.call.value = returned;
	return write_map_event(hit, found.skb, found.call);
}

#endif
#endif
