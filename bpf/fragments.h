/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Filters read the linear area. A filter that needs bytes behind its end returns BEYOND, and is run a second time, on a
 * copy of the packet's first REACH bytes, fragments included. REACH is as far as the run's filters can read
 * (filter/reach.py).
 */
#ifndef __PYPWRU_FRAGMENTS_H
#define __PYPWRU_FRAGMENTS_H

#include "helpers.h"
#include "pieces.h"

/* The contiguous bytes that a filter runs on. */
struct bytes {
	u64 at, size;
	u64 owner;
	struct gathered *copy;
};

#if FILTER_FRAGMENTS

/* Bytes are missing (filter/emit.py). The 32 bits below are the result if there are none. */
#define BEYOND (1ULL << 32)
#define IS_MATCH(answer) ((u32)(answer) != 0)

#define GATHERED 16384 /* filter/reads.py */
#define TURNS_TO_GATHER 16 /* pieces, of at most PAGE_ROOM, that are copied */
#define COPIES 4 /* per CPU: for a task, and for what interrupts it */

struct gathered {
	u64 owner;
	u8 bytes[GATHERED + PAGE_ROOM];
};

VALUE_OF(gathered, struct gathered);

/*
 * Claim one of this CPU's free copies. A handler that interrupts this one releases its copy before it returns. Only a
 * task that preempts this one between the load and the store can claim the same copy; give_back() detects that, since
 * the owner is a stack address, which no two tasks have in common.
 */
ALWAYS_INLINE int take_copy(struct bytes *bytes)
{
	void *here = bytes;
	u32 key;

	READ(bytes->owner, &here, 0);
	for (key = 0; key < COPIES; key++) {
		u32 number = key;

		bytes->copy = bpf_map_lookup_elem(MAP_gathered, &number);
		if (bytes->copy && !*(volatile u64 *)&bytes->copy->owner) {
			*(volatile u64 *)&bytes->copy->owner = bytes->owner;
			return 1;
		}
	}
	return 0;
}

/* Release the copy. Returns 0 if another owner has written to it in the meantime. */
ALWAYS_INLINE int give_back(struct bytes *bytes)
{
	volatile u64 *owner = &bytes->copy->owner;

	if (*owner != bytes->owner)
		return 0;
	*owner = 0;
	return 1;
}

/* Returns the number of bytes copied. The state is read back by a helper, as in write_chunks(). */
ALWAYS_INLINE u64 copy_pieces(struct gathered *to, struct pieces *left)
{
	u64 done = 0, size;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < TURNS_TO_GATHER; i++) {
		bpf_probe_read_kernel(left, sizeof(*left), left);
		if (!left->size && !next_piece(left))
			break;
		bpf_probe_read_kernel(left, sizeof(*left), left);
		size = OPAQUE(left->size < left->wanted ? left->size : left->wanted);
		if (size > PAGE_ROOM)
			size = PAGE_ROOM;
		done = KNOWN_AT_LOAD(REACH) - left->wanted;
		if (!left->wanted || done >= GATHERED)
			break;
		if (bpf_probe_read_kernel(to->bytes + done, size, (void *)left->at))
			break;
		left->at += size;
		left->size -= size;
		left->wanted -= size;
	}
	return KNOWN_AT_LOAD(REACH) - left->wanted;
}

/*
 * Copy the packet from `start` on. Returns 0 if all of it is linear, or no copy is free. The end of the linear area is
 * read anew: otherwise the verifier would go on from here once for each bound that a path through a filter has derived.
 */
ALWAYS_INLINE int gather(struct bytes *bytes, u64 skb, u64 start)
{
	u64 end = read_u64(skb + FIELD(sk_buff, head)) + read_u32(skb + FIELD(sk_buff, tail));
	struct pieces left = { start, end - start };
	void *copy;

	if (!read_u32(skb + FIELD(sk_buff, data_len)) || !take_copy(bytes))
		return 0;
	left.wanted = KNOWN_AT_LOAD(REACH);
	left.skb = read_u64(enter_fragments(&left, skb) + FIELD(skb_shared_info, frag_list));
	bytes->size = copy_pieces(bytes->copy, &left);
	copy = bytes->copy->bytes;
	READ(bytes->at, &copy, 0); /* a scalar, since filters do arithmetic with it */
	return 1;
}

/*
 * Whether a filter matches. `ask` is an expression on `bytes`, the packet from `start` on: the first time its linear
 * area, the second time, if it returned BEYOND, the copy.
 */
#define ANSWER(skb, start, linear, ask)                                                  \
	({                                                                               \
		struct bytes bytes = { start, linear };                                  \
		u64 answer = 0;                                                          \
		int asked;                                                               \
		_Pragma("clang loop unroll(disable)") for (asked = 0; asked < 2; asked++) \
		{                                                                        \
			answer = (ask);                                                  \
			if (asked && !give_back(&bytes))                                 \
				answer = 0;                                              \
			if (asked || !(answer & BEYOND) || !gather(&bytes, skb, start))  \
				break;                                                   \
		}                                                                        \
		IS_MATCH(answer);                                                        \
	})

#else

#define IS_MATCH(answer) ((answer) != 0)

#define ANSWER(skb, start, linear, ask)                 \
	({                                              \
		struct bytes bytes = { start, linear }; \
		IS_MATCH(ask);                          \
	})

#endif
#endif
