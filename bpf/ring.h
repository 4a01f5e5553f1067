/* SPDX-License-Identifier: GPL-2.0 */
/* Submit records to the ring: whether the reader takes them, and whether to wake it. */
#ifndef __PYPWRU_RING_H
#define __PYPWRU_RING_H

#include "helpers.h"
#include "event.h"

ALWAYS_INLINE u32 reader_state(void)
{
	u32 key = 0;
	volatile u32 *reader = bpf_map_lookup_elem(MAP_reader, &key);

	return reader ? *reader : READER_STOPPED;
}

/* A wake-up costs about nine times the write: only a reader that sleeps is woken. */
ALWAYS_INLINE void submit_event(struct event *event)
{
	bpf_ringbuf_submit(event, reader_state() == READER_DOZING ? BPF_RB_FORCE_WAKEUP
								  : BPF_RB_NO_WAKEUP);
}

#endif
