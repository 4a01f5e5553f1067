/* SPDX-License-Identifier: GPL-2.0 */
/* From a matching packet to a record on the ring. The same for every kind of probe. */
#ifndef __PYPWRU_TRACE_H
#define __PYPWRU_TRACE_H

#include "helpers.h"
#include "event.h"
#include "packet.h"
#include "flow.h"

ALWAYS_INLINE int trace(u64 skb, u64 address, u64 reason)
{
	struct counters *counters;
	struct event *event;
	volatile u32 *reader;
	u32 key = 0;

	if (!skb || !packet_matches(skb))
		return 0;
	reader = bpf_map_lookup_elem(MAP_reader, &key);
	counters = bpf_map_lookup_elem(MAP_counters, &key);
	if (!reader || !counters || *reader == READER_STOPPED)
		return 0;
	/* atomic: an interrupt's probe may run on this CPU in the middle */
	__sync_fetch_and_add(&counters->produced, 1);
	event = bpf_ringbuf_reserve(MAP_events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&counters->ring_full, 1);
		return 0;
	}
	event->skb = skb;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->cpu = bpf_get_smp_processor_id();
	event->kind = EVENT_FUNCTION;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->address = address;
	event->reason = reason;
	event->ktime = bpf_ktime_get_ns();
	fill_flow(event, skb);
	/* a wake-up costs about nine times the write: only a reader that dozes is woken */
	bpf_ringbuf_submit(event, *reader == READER_DOZING ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
