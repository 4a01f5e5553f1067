/* SPDX-License-Identifier: GPL-2.0 */
/* Arguments of functions on BPF maps that are called while a packet is handled (--output-bpfmap). */
#ifndef __PYPWRU_MAPS_H
#define __PYPWRU_MAPS_H

#include "trace.h"

#if OUTPUT_BPFMAP

/* Addresses; the value is 0 if there is none (yet). */
struct call {
	u64 map, key, value;
};

/* A look-up that has not returned; its key is the stack that it is on: BPF programs on a stack don't nest look-ups. */
struct kept_call {
	struct call call;
	u64 skb;
	u64 address;
	u64 caller;
};
VALUE_OF(calls, struct kept_call);

ALWAYS_INLINE u32 at_most(u32 size, u32 limit)
{
	return size < limit ? size : limit;
}

ALWAYS_INLINE int write_call(struct sight sight, u64 skb, struct call call)
{
	struct known known = identify(skb, sight.address);
	struct counters *counters = admitted(sight.address, &known);
	struct told told = {};
	struct event *event;
	struct part_map *map;

	if (!counters)
		return 0;
	choose(&told, skb, sight.address, 0);
	event = begin(sight, skb, &known, &told, counters);
	if (!event)
		return 0;
	fill_flow(event, skb);
	fill_skb_tail(event, skb);
	tell_skb(event, &told, skb);
	map = PART(event, map);
	map->id = read_u32(call.map + FIELD(bpf_map, id));
	map->key_size = read_u32(call.map + FIELD(bpf_map, key_size));
	map->value_size = read_u32(call.map + FIELD(bpf_map, value_size));
	map->pad = 0;
	__builtin_memset(map->name, 0, sizeof(map->name));
	bpf_probe_read_kernel(map->name, sizeof(map->name), (void *)(call.map + FIELD(bpf_map, name)));
	__builtin_memset(map->key, 0, sizeof(map->key));
	__builtin_memset(map->value, 0, sizeof(map->value));
	bpf_probe_read_kernel(map->key, at_most(map->key_size, sizeof(map->key)), (void *)call.key);
	if (call.value)
		bpf_probe_read_kernel(map->value, at_most(map->value_size, sizeof(map->value)),
				      (void *)call.value);
	else
		map->value_size = 0;
	submit(event);
	return 0;
}

ALWAYS_INLINE int trace_map(struct sight sight, struct call call)
{
	u64 skb = handled_at(sight.depth);

	return skb ? write_call(sight, skb, call) : 0;
}

/* At the entry of a look-up: the value is known at its return. */
ALWAYS_INLINE int keep_call(struct sight sight, struct call call)
{
	u64 stack = stack_at(sight.depth);
	struct kept_call kept = { { call.map, call.key, 0 }, handled_at(sight.depth), sight.address, sight.caller };

	if (kept.skb)
		bpf_map_update_elem(MAP_calls, &stack, &kept, 0);
	return 0;
}

/* At the return of a look-up. */
ALWAYS_INLINE int trace_kept(struct sight sight, u64 returned)
{
	u64 stack = stack_at(sight.depth);
	struct kept_call *kept = bpf_map_lookup_elem(MAP_calls, &stack);
	struct kept_call found;

	if (!kept)
		return 0;
	found = *kept;
	bpf_map_delete_elem(MAP_calls, &stack);
	sight.address = found.address;
	sight.caller = found.caller;
	found.call.value = returned;
	return write_call(sight, found.skb, found.call);
}

#endif
#endif
