/* SPDX-License-Identifier: GPL-2.0 */
/* Which events are written: those of sampled packets, and only so many in a second. */
#ifndef PYPWRU_MATCH_RATE_H
#define PYPWRU_MATCH_RATE_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "skb/new_packet.h"
#include "ring.h"

#define SECOND 1000000000ULL /* ns */

/*
 * Key of the map `rate`. Each second has entries of its own, so that no CPU has to reset one while
 * others count.
 */
struct rate_key {
	u64 address; /* of the probe; ALL_EVENTS: the limit of all together */
	u64 second;
};
#define ALL_EVENTS (~0ULL)

/*
 * Whether an event is over a limit. The counter is incremented, then read: at most `limit`
 * increments read that or less.
 */
ALWAYS_INLINE int is_over_limit(u64 address, u64 limit)
{
	struct rate_key key = { .address = address, .second = bpf_ktime_get_ns() / SECOND };
	u64 none = 0, *count = bpf_map_lookup_elem(MAP_rate, &key);

	if (!count) {
		bpf_map_update_elem(MAP_rate, &key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(MAP_rate, &key);
	}
	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	return *(volatile u64 *)count > limit;
}

/* For the report of functions over --max-hits. */
ALWAYS_INLINE void count_throttled(u64 address)
{
	u64 none = 0, *count = bpf_map_lookup_elem(MAP_throttled, &address);

	if (!count) {
		bpf_map_update_elem(MAP_throttled, &address, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(MAP_throttled, &address);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
}

/*
 * The counters of this CPU if an event of a matching packet is to be written, else NULL. Counts the
 * event either way.
 */
ALWAYS_INLINE struct counters *admit_event(u64 address, struct packet_id *packet_id)
{
	struct counters *counters = this_cpu_counters();

	if (!counters || reader_state() == READER_STOPPED)
		return NULL;
	__sync_fetch_and_add(&counters->produced, 1);
	if ((SAMPLE_PACKETS || SAMPLE_FLOWS) && packet_id->is_sampled_out) {
		__sync_fetch_and_add(&counters->not_sampled, 1);
		return NULL;
	}
	if (LIMIT_HITS && is_over_limit(address, LOAD_TIME_CONST(MAX_HITS))) {
		__sync_fetch_and_add(&counters->throttled, 1);
		count_throttled(address);
		return NULL;
	}
	if (LIMIT_RATE && is_over_limit(ALL_EVENTS, LOAD_TIME_CONST(MAX_EVENTS))) {
		__sync_fetch_and_add(&counters->over_rate, 1);
		return NULL;
	}
	return counters;
}

#endif
