/* SPDX-License-Identifier: GPL-2.0 */
/* Which sights are shown: of packets that were chosen, and no more of them in a second than are wanted. */
#ifndef __PYPWRU_LIMITS_H
#define __PYPWRU_LIMITS_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "identity.h"
#include "ring.h"

#if LIMIT_RATE || LIMIT_HITS

#define SECOND 1000000000ULL /* ns */

/* In the map `hits`: each second has entries of its own, so that nobody need set one back while others count. */
struct second {
	u64 address; /* of the probe; ALL for any */
	u64 second;
};
#define ALL (~0ULL)

/* A counter is added to, then read: of so many that are added at most `most` read no more than that. */
ALWAYS_INLINE int is_beyond(u64 address, u64 most)
{
	struct second key = { address, bpf_ktime_get_ns() / SECOND };
	u64 none = 0, *count = bpf_map_lookup_elem(MAP_hits, &key);

	if (!count) {
		bpf_map_update_elem(MAP_hits, &key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(MAP_hits, &key);
	}
	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	return *(volatile u64 *)count > most;
}
#endif

#if LIMIT_HITS
/* For who names it. */
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
#endif

/* The counters of this CPU if this sight of a packet that matches is to be written, or NULL; counted either way. */
ALWAYS_INLINE struct counters *admitted(u64 address, struct known *known)
{
	struct counters *counters = own_counters();

	if (!counters || reader_is() == READER_STOPPED)
		return NULL;
	__sync_fetch_and_add(&counters->produced, 1);
#if SAMPLE_PACKETS || SAMPLE_FLOWS
	if (known->is_out) {
		__sync_fetch_and_add(&counters->not_sampled, 1);
		return NULL;
	}
#endif
#if LIMIT_HITS
	if (is_beyond(address, KNOWN_AT_LOAD(MOST_HITS))) {
		__sync_fetch_and_add(&counters->throttled, 1);
		count_throttled(address);
		return NULL;
	}
#endif
#if LIMIT_RATE
	if (is_beyond(ALL, KNOWN_AT_LOAD(MOST_EVENTS))) {
		__sync_fetch_and_add(&counters->over_rate, 1);
		return NULL;
	}
#endif
	return counters;
}

#endif
