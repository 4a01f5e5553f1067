/* SPDX-License-Identifier: GPL-2.0 */
/* EVENT_SKB_FREE: the record of the free of an sk_buff that had events. It is no event itself. */
#ifndef PYPWRU_SKB_SKB_FREE_H
#define PYPWRU_SKB_SKB_FREE_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "ring.h"
#include "parts.h"

ALWAYS_INLINE void write_free_record(struct sk_buff *skb, u64 id)
{
	struct event *event;

	if (reader_state() == READER_STOPPED)
		return;
	event = bpf_ringbuf_reserve(MAP_events, WIRE_SIZE, 0);
	if (!event) {
		INC_COUNTER(free_records_lost);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->skb = address_of(skb);
	event->cpu = bpf_get_smp_processor_id();
	event->kind = EVENT_SKB_FREE;
	event->ktime = bpf_ktime_get_ns();
	clear_tail(event);
	CLEAR_PART(event, caller);
	CLEAR_PART(event, stack);
	((struct part_packet_id *)PART(event, packet_id))->id = id;
	submit_event(event);
}

#endif
