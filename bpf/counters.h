/* SPDX-License-Identifier: GPL-2.0 */
/* What the handlers count, each CPU for itself. */
#ifndef __PYPWRU_COUNTERS_H
#define __PYPWRU_COUNTERS_H

#include "helpers.h"
#include "event.h"

/* Of this CPU; atomic, since an interrupt's probe may run in the middle. */
ALWAYS_INLINE struct counters *own_counters(void)
{
	u32 key = 0;

	return bpf_map_lookup_elem(MAP_counters, &key);
}

/* One more of a member of struct counters. */
#define COUNT(member)                                                 \
	do {                                                          \
		struct counters *counters_ = own_counters();          \
								      \
		if (counters_)                                        \
			__sync_fetch_and_add(&counters_->member, 1);  \
	} while (0)

#endif
