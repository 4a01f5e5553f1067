/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Write packet data to the ring `packets`. One loop goes through all pieces of a packet, one chunk
 * per iteration; its state is read back by a helper, so that all iterations are alike to the
 * verifier.
 */
#ifndef PYPWRU_CAPTURE_CHUNKS_H
#define PYPWRU_CAPTURE_CHUNKS_H

#include "helpers.h"
#include "event.h"
#include "capture/pieces.h"

#if CAPTURE

/*
 * Chunks per packet, at most: enough for 64 KiB in pieces of one Ethernet frame each or in pages,
 * and for more than that in larger pieces. The verifier walks each iteration.
 */
#define MAX_CHUNKS (SNAPLEN < 65536 ? 9 + SNAPLEN / 1440 : 72)
/* Sizes of chunks: for headers and small packets, for an Ethernet frame, for a page. */
#define SMALL_CHUNK 256
#define FRAME_CHUNK 1536

/* Values of pieces.error */
#define CHUNK_NO_ROOM 1
#define CHUNK_UNREADABLE 2

/*
 * Write up to `room` bytes, a constant as bpf_ringbuf_reserve() requires. Returns 0, CHUNK_NO_ROOM
 * or CHUNK_UNREADABLE.
 */
ALWAYS_INLINE u64 write_chunk(struct event *event, u64 at, u64 size, const u64 room)
{
	struct chunk *chunk = bpf_ringbuf_reserve(MAP_packets, sizeof(*chunk) + room, 0);

	if (!chunk)
		return CHUNK_NO_ROOM;
	chunk->skb = event->skb;
	chunk->ktime = event->ktime;
	chunk->cpu = event->cpu;
	chunk->size = size;
	if (bpf_probe_read_kernel(chunk + 1, size, (void *)at)) {
		bpf_ringbuf_discard(chunk, BPF_RB_NO_WAKEUP);
		return CHUNK_UNREADABLE;
	}
	bpf_ringbuf_submit(chunk, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * Write the chunks of a packet. A chunk's bytes are read to its beginning, so that the verifier
 * need not relate an offset to a length. `left` is read back by a helper, so that the verifier
 * knows nothing about it either: else it would walk each iteration once for every length that an
 * earlier chunk can have had.
 */
ALWAYS_INLINE void write_chunks(struct event *event, struct pieces *left)
{
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_CHUNKS; i++) {
		u64 size;

		bpf_probe_read_kernel(left, sizeof(*left), left);
		if (!left->size && !next_piece(left))
			break;
		bpf_probe_read_kernel(left, sizeof(*left), left);
		if (!left->remaining)
			break;
		size = OPAQUE(left->size < left->remaining ? left->size : left->remaining);
		if (size <= SMALL_CHUNK) {
			left->error = write_chunk(event, left->at, size, SMALL_CHUNK);
		} else if (size <= FRAME_CHUNK) {
			left->error = write_chunk(event, left->at, size, FRAME_CHUNK);
		} else {
			if (size > MAX_READ_SIZE)
				size = MAX_READ_SIZE;
			left->error = write_chunk(event, left->at, size, MAX_READ_SIZE);
		}
		if (left->error)
			break;
		left->at += size;
		left->size -= size;
		left->remaining -= size;
	}
}

#endif
#endif
