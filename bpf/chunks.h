/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Write packet data to the ring `packets`. One loop goes through all pieces of a packet, one chunk per iteration; its
 * state is read back by a helper, so that all iterations are alike to the verifier.
 */
#ifndef __PYPWRU_CHUNKS_H
#define __PYPWRU_CHUNKS_H

#include "helpers.h"
#include "event.h"
#include "pieces.h"

#if CAPTURE

/*
 * Chunks per packet, at most: enough for 64 KiB in pieces of one Ethernet frame each or in pages, and for more than
 * that in larger pieces. The verifier walks each iteration.
 */
#define TURNS (SNAPLEN < 65536 ? 9 + SNAPLEN / 1440 : 72)
/* Sizes of chunks: for headers and small packets, for an Ethernet frame, for a page. */
#define SMALL_ROOM 256
#define FRAME_ROOM 1536

/* Values of pieces.why */
#define NO_ROOM 1
#define UNREADABLE 2

/* Write up to `room` bytes, a constant as bpf_ringbuf_reserve() requires. Returns 0, NO_ROOM or UNREADABLE. */
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
 * Write the chunks of a packet. A chunk's bytes are read to its beginning, so that the verifier need not relate an
 * offset to a length. `left` is read back by a helper, so that the verifier knows nothing about it either: else it
 * would walk each iteration once for every length that an earlier chunk can have had.
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
