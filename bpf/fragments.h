/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Filters read the linear area. One that asks for what is behind its end answers BEYOND, and is asked once more, of a
 * copy of the packet's first REACH bytes that goes on in the fragments. REACH is as far as the run's filters can read
 * (filter/reach.py).
 */
#ifndef __PYPWRU_FRAGMENTS_H
#define __PYPWRU_FRAGMENTS_H

#include "helpers.h"
#include "pieces.h"

/* The bytes that a filter gets, in a row from an address on. */
struct bytes {
	u64 at, size;
	u64 owner;
	struct gathered *copy;
};

#if FILTER_FRAGMENTS

/* Bytes are missing (filter/emit.py). The 32 bits below are the answer if there are none. */
#define BEYOND (1ULL << 32)
#define IS_MATCH(answer) ((u32)(answer) != 0)

#define GATHERED 16384 /* filter/reads.py */
#define TURNS_TO_GATHER 16 /* pieces of at most PAGE_ROOM that are copied */
#define COPIES 4 /* of a CPU: a task, and what interrupts it */

struct gathered {
	u64 owner;
	u8 bytes[GATHERED + PAGE_ROOM];
};

VALUE_OF(gathered, struct gathered);

/*
 * One of this CPU's copies that nobody uses. What interrupts this handler gives it back before it returns. Only a task
 * that takes over this CPU between the look and the store may have it as well: no two of them are at the same place of
 * a stack, so that is seen afterwards.
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

/* 0: somebody else wrote into it meanwhile. */
ALWAYS_INLINE int give_back(struct bytes *bytes)
{
	volatile u64 *owner = &bytes->copy->owner;

	if (*owner != bytes->owner)
		return 0;
	*owner = 0;
	return 1;
}

/* What is at is read out of memory, as in write_chunks(). */
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
 * Copy the packet from `start` on; 0 if all of it is linear. How much of it is, is found out anew: the verifier would
 * go on from here with each of the bounds that a filter found of it on one of its ways.
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
	READ(bytes->at, &copy, 0); /* a number, with which filters calculate */
	return 1;
}

/* What `ask` says, an expression about `bytes`: those of the packet from `start` on. */
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
