/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bytes of a packet, onto the ring `packets`. One loop goes through all of its pieces, a chunk a turn; what it is
 * at is read out of memory, so that one turn is to the verifier like another.
 */
#ifndef __PYPWRU_CHUNKS_H
#define __PYPWRU_CHUNKS_H

#include "helpers.h"
#include "event.h"
#include "pieces.h"

#if CAPTURE

/*
 * Chunks of a packet at most: of 64 KiB in pieces of an Ethernet frame each, or in pages; of more, in larger pieces.
 * The verifier walks through each.
 */
#define TURNS (SNAPLEN < 65536 ? 9 + SNAPLEN / 1440 : 72)
/* Room in a chunk: headers and small packets, what an Ethernet frame holds, a page. */
#define SMALL_ROOM 256
#define FRAME_ROOM 1536

/* pieces.why */
#define NO_ROOM 1
#define UNREADABLE 2

ALWAYS_INLINE u64 write_chunk(struct event *event, u64 at, u64 size, const u64 room)
{
	struct chunk *chunk = bpf_ringbuf_reserve(MAP_packets, sizeof(*chunk) + room, 0);

	if (!chunk)
		return NO_ROOM;
	chunk->skb = event->skb;
	chunk->ktime = event->ktime;
	chunk->cpu = event->cpu;
	chunk->size = size;
	if (bpf_probe_read_kernel(chunk + 1, size, (void *)at)) {
		bpf_ringbuf_discard(chunk, BPF_RB_NO_WAKEUP);
		return UNREADABLE;
	}
	bpf_ringbuf_submit(chunk, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * Where bytes go to begins with them: the verifier need not be told how an offset and a length go together. It is told
 * nothing of what is left, either, by having that read out of where it is: it would look at each turn for each of the
 * lengths that a chunk before can have had.
 */
ALWAYS_INLINE void write_chunks(struct event *event, struct pieces *left)
{
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < TURNS; i++) {
		u64 size;

		bpf_probe_read_kernel(left, sizeof(*left), left);
		if (!left->size && !next_piece(left))
			break;
		bpf_probe_read_kernel(left, sizeof(*left), left);
		if (!left->wanted)
			break;
		size = OPAQUE(left->size < left->wanted ? left->size : left->wanted);
		if (size <= SMALL_ROOM) {
			left->why = write_chunk(event, left->at, size, SMALL_ROOM);
		} else if (size <= FRAME_ROOM) {
			left->why = write_chunk(event, left->at, size, FRAME_ROOM);
		} else {
			if (size > PAGE_ROOM)
				size = PAGE_ROOM;
			left->why = write_chunk(event, left->at, size, PAGE_ROOM);
		}
		if (left->why)
			break;
		left->at += size;
		left->size -= size;
		left->wanted -= size;
	}
}

#endif
#endif
