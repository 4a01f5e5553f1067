/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bytes of an sk_buff lie in pieces: the linear area, the page fragments of its skb_shared_info, and the sk_buffs
 * of its frag_list, each with both of these.
 */
#ifndef __PYPWRU_PIECES_H
#define __PYPWRU_PIECES_H

#include "helpers.h"

#if CAPTURE || FILTER_FRAGMENTS

#define PAGE_ROOM 4096 /* the most that is read at a time */

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

#endif
#endif
