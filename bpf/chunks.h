/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bytes of a packet, onto the ring `packets`. They lie in pieces: the linear area, the page fragments of its
 * skb_shared_info, and the sk_buffs of its frag_list, each with both of these. One loop goes through all of them, a
 * chunk a turn; what it is at is read out of memory, so that one turn is to the verifier like another.
 */
#ifndef __PYPWRU_CHUNKS_H
#define __PYPWRU_CHUNKS_H

#include "helpers.h"
#include "event.h"

#if CAPTURE

/*
 * Chunks of a packet at most: of 64 KiB in pieces of an Ethernet frame each, or in pages; of more, in larger pieces.
 * The verifier walks through each.
 */
#define TURNS (SNAPLEN < 65536 ? 9 + SNAPLEN / 1440 : 72)
/* Room in a chunk: headers and small packets, what an Ethernet frame holds, a page. */
#define SMALL_ROOM 256
#define FRAME_ROOM 1536
#define PAGE_ROOM 4096

/* What is left of a packet. */
struct pieces {
	u64 at;	      /* address of the next byte */
	u64 size;     /* how many there are in a row */
	u64 fragment; /* address of the next skb_frag_t */
	u64 last;     /* behind the last one */
	u64 skb;      /* the next sk_buff of the frag_list */
	u64 wanted;   /* so many bytes are still to be written */
	u64 why;      /* the last chunk was the last */
};

/* pieces.why */
#define NO_ROOM 1
#define UNREADABLE 2

/* Where the bytes of a struct page are (kernel/pages.py); 0 where that isn't known, or it is a device's (netmem). */
ALWAYS_INLINE u64 address_of_page(u64 page)
{
	u64 memmap = KNOWN_AT_LOAD(MEMMAP), direct = KNOWN_AT_LOAD(DIRECT_MAP);

	if (!memmap || page & 1)
		return 0;
	return direct + (page - memmap) / SIZE_OF(page) * PAGE_SIZE;
}

ALWAYS_INLINE int next_fragment(struct pieces *left)
{
	u32 offset, size;
	u64 page;

	/* A struct of its own since Linux 6.9 (commit 21d2e6737c97), a struct bio_vec before. */
#ifdef FIELD_skb_frag_netmem
	page = read_u64(left->fragment + OPTIONAL_FIELD(skb_frag, netmem));
	size = read_u32(left->fragment + OPTIONAL_FIELD(skb_frag, len));
	offset = read_u32(left->fragment + OPTIONAL_FIELD(skb_frag, offset));
	left->fragment += SIZE_OF(skb_frag);
#else
	page = read_u64(left->fragment + OPTIONAL_FIELD(bio_vec, bv_page));
	size = read_u32(left->fragment + OPTIONAL_FIELD(bio_vec, bv_len));
	offset = read_u32(left->fragment + OPTIONAL_FIELD(bio_vec, bv_offset));
	left->fragment += SIZE_OF(bio_vec);
#endif
	page = address_of_page(page);
	left->at = page + offset;
	left->size = size;
	return page != 0;
}

/* The fragments of an sk_buff are next. */
ALWAYS_INLINE u64 enter_fragments(struct pieces *left, u64 skb)
{
	u64 shared = read_u64(skb + FIELD(sk_buff, head)) + read_u32(skb + FIELD(sk_buff, end));
	u8 count = 0;

	READ(count, shared, FIELD(skb_shared_info, nr_frags));
	left->fragment = left->last = shared + FIELD(skb_shared_info, frags);
#ifdef FIELD_skb_frag_netmem
	left->last += count * SIZE_OF(skb_frag);
#else
	left->last += count * SIZE_OF(bio_vec);
#endif
	return shared;
}

/* The next of the frag_list, whose sk_buffs have none themselves. */
ALWAYS_INLINE void next_skb(struct pieces *left)
{
	u64 skb = left->skb;

	left->at = read_u64(skb + FIELD(sk_buff, data));
	left->size = read_u32(skb + FIELD(sk_buff, len)) - read_u32(skb + FIELD(sk_buff, data_len));
	left->skb = read_u64(skb + FIELD(sk_buff, next));
	enter_fragments(left, skb);
}

ALWAYS_INLINE int next_piece(struct pieces *left)
{
	if (left->fragment < left->last)
		return next_fragment(left);
	if (!left->skb)
		return 0;
	next_skb(left);
	return 1;
}

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
