/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Filters read the linear area. A filter that needs bytes behind its end returns NEEDS_FRAGMENTS,
 * and is run a second time, on a copy of the packet's first FILTER_REACH bytes, fragments included.
 * FILTER_REACH is as far as the run's filters can read (filter/reach.py).
 */
#ifndef PYPWRU_MATCH_FRAGMENTS_H
#define PYPWRU_MATCH_FRAGMENTS_H

#include "helpers.h"
#include "capture/pieces.h"

/* The contiguous bytes that a filter runs on. */
struct filter_input {
	u64 at, size;
	u64 owner;
	struct linear_copy *copy;
};

#if FILTER_FRAGMENTS

/* Bytes are missing (filter/codegen.py). The 32 bits below are the result if there are none. */
#define NEEDS_FRAGMENTS (1ULL << 32)
#define IS_FILTER_MATCH(result) ((u32)(result) != 0)

#define LINEAR_COPY_SIZE 16384 /* filter/packet_loads.py */
#define MAX_COPIED_PIECES 16   /* pieces, of at most MAX_READ_SIZE, that are copied */
#define COPIES_PER_CPU 4       /* for a task, and for what interrupts it */

struct linear_copy {
	u64 owner;
	u8 bytes[LINEAR_COPY_SIZE + MAX_READ_SIZE];
};

ASSERT_VALUE_SIZE(linear_copies, struct linear_copy);

/*
 * Claim one of this CPU's free copies. A handler that interrupts this one releases its copy before
 * it returns. Only a task that preempts this one between the load and the store can claim the same
 * copy; release_copy() detects that, since the owner is a stack address, which no two tasks have in
 * common.
 */
ALWAYS_INLINE int claim_copy(struct filter_input *input)
{
	void *here = input;
	u32 key;

	READ(input->owner, &here);
	for (key = 0; key < COPIES_PER_CPU; key++) {
		u32 number = key;

		input->copy = bpf_map_lookup_elem(MAP_linear_copies, &number);
		if (input->copy && !*(volatile u64 *)&input->copy->owner) {
			*(volatile u64 *)&input->copy->owner = input->owner;
			return 1;
		}
	}
	return 0;
}

/* Release the copy. Returns 0 if another owner has written to it in the meantime. */
ALWAYS_INLINE int release_copy(struct filter_input *input)
{
	volatile u64 *owner = &input->copy->owner;

	if (*owner != input->owner)
		return 0;
	*owner = 0;
	return 1;
}

/* Returns the number of bytes copied. The state is read back by a helper, as in write_chunks(). */
ALWAYS_INLINE u64 copy_pieces(struct linear_copy *to, struct pieces *left)
{
	u64 done = 0, size;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_COPIED_PIECES; i++) {
		bpf_probe_read_kernel(left, sizeof(*left), left);
		if (!left->size && !next_piece(left))
			break;
		bpf_probe_read_kernel(left, sizeof(*left), left);
		size = OPAQUE(left->size < left->remaining ? left->size : left->remaining);
		if (size > MAX_READ_SIZE)
			size = MAX_READ_SIZE;
		done = LOAD_TIME_CONST(FILTER_REACH) - left->remaining;
		if (!left->remaining || done >= LINEAR_COPY_SIZE)
			break;
		if (bpf_probe_read_kernel(to->bytes + done, size, (void *)left->at))
			break;
		left->at += size;
		left->size -= size;
		left->remaining -= size;
	}
	return LOAD_TIME_CONST(FILTER_REACH) - left->remaining;
}

/*
 * Copy the packet from `start` on. Returns 0 if all of it is linear, or no copy is free. The end of
 * the linear area is read anew: otherwise the verifier would go on from here once for each bound
 * that a path through a filter has derived.
 */
ALWAYS_INLINE int copy_packet(struct filter_input *input, struct sk_buff *skb, u64 start)
{
	u64 end = KREAD(skb, sk_buff, head) + KREAD(skb, sk_buff, tail);
	struct pieces left = { .at = start, .size = end - start };
	void *copy;

	if (!KREAD(skb, sk_buff, data_len) || !claim_copy(input))
		return 0;
	left.remaining = LOAD_TIME_CONST(FILTER_REACH);
	left.skb = frag_list_of(enter_fragments(&left, skb));
	input->size = copy_pieces(input->copy, &left);
	copy = input->copy->bytes;
	READ(input->at, &copy); /* a scalar, since filters do arithmetic with it */
	return 1;
}

/*
 * Whether a filter matches. `filter` is an expression on `input`, the packet from `start` on: in
 * the first run its linear area, in the second, if it returned NEEDS_FRAGMENTS, the copy.
 */
#define RUN_FILTER(skb, start, linear, filter)                                      \
	({                                                                          \
		struct filter_input input = { .at = start, .size = linear };        \
		u64 result = 0;                                                     \
		int run;                                                            \
		_Pragma("clang loop unroll(disable)") for (run = 0; run < 2; run++) \
		{                                                                   \
			result = (filter);                                          \
			if (run && !release_copy(&input))                           \
				result = 0;                                         \
			if (run || !(result & NEEDS_FRAGMENTS) ||                   \
			    !copy_packet(&input, skb, start))                       \
				break;                                              \
		}                                                                   \
		IS_FILTER_MATCH(result);                                            \
	})

#else

#define IS_FILTER_MATCH(result) ((result) != 0)

#define RUN_FILTER(skb, start, linear, filter)                               \
	({                                                                   \
		struct filter_input input = { .at = start, .size = linear }; \
		IS_FILTER_MATCH(filter);                                     \
	})

#endif
#endif
