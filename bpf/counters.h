/* SPDX-License-Identifier: GPL-2.0 */
/* Counters of the handlers, per CPU. */
#ifndef __PYPWRU_COUNTERS_H
#define __PYPWRU_COUNTERS_H

#include "helpers.h"
#include "event.h"

/*
 * The counters of this CPU. Increment them atomically, since an interrupt's probe may run in
 * between.
 */
ALWAYS_INLINE struct counters *this_cpu_counters(void)
{
	u32 key = 0;

	return bpf_map_lookup_elem(MAP_counters, &key);
}

/* Increment a member of struct counters. */
#define INC_COUNTER(member)                                          \
	do {                                                         \
		struct counters *counters_ = this_cpu_counters();    \
                                                                     \
		if (counters_)                                       \
			__sync_fetch_and_add(&counters_->member, 1); \
	} while (0)

#endif
