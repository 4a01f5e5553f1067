/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bytes of an sk_buff lie in pieces: the linear area, the page fragments of its
 * skb_shared_info, and the sk_buffs of its frag_list, each with both of these.
 */
#ifndef PYPWRU_CAPTURE_PIECES_H
#define PYPWRU_CAPTURE_PIECES_H

#include "helpers.h"

#if CAPTURE || FILTER_FRAGMENTS

#define MAX_READ_SIZE 4096 /* bytes that are read at a time, at most */

/* The rest of a packet. */
struct pieces {
	u64 at;		     /* address of the next byte */
	u64 size;	     /* contiguous bytes there */
	u64 fragment;	     /* address of the next skb_frag_t */
	u64 fragments_end;   /* end of the array of skb_frag_t */
	struct sk_buff *skb; /* the next of the frag_list */
	u64 remaining;	     /* bytes still to be written */
	u64 error;	     /* of the last chunk: CHUNK_NO_ROOM or CHUNK_UNREADABLE, or 0 */
};

/*
 * Address of the bytes of a struct page (program/page_bases.py); 0 if that is unknown, or it is
 * device memory (netmem).
 */
ALWAYS_INLINE u64 page_address(u64 page)
{
	u64 memmap = LOAD_TIME_CONST(MEMMAP), direct = LOAD_TIME_CONST(DIRECT_MAP);

	if (!memmap || page & 1)
		return 0;
	return direct + (page - memmap) / SIZE_OF(page) * PAGE_SIZE;
}

/*
 * skb_frag_t is a struct since Linux commit 21d2e6737c97 ("net: add netmem to skb_frag_t") (in
 * v6.9), a struct bio_vec before.
 */
#ifdef FIELD_skb_frag_netmem
#define FRAG_PAGE(at) KREAD((struct skb_frag *)(at), skb_frag, netmem)
#define FRAG_LEN(at) KREAD((struct skb_frag *)(at), skb_frag, len)
#define FRAG_OFFSET(at) KREAD((struct skb_frag *)(at), skb_frag, offset)
#define FRAG_SIZE SIZE_OF(skb_frag)
#else
#define FRAG_PAGE(at) KREAD((struct bio_vec *)(at), bio_vec, bv_page)
#define FRAG_LEN(at) KREAD((struct bio_vec *)(at), bio_vec, bv_len)
#define FRAG_OFFSET(at) KREAD((struct bio_vec *)(at), bio_vec, bv_offset)
#define FRAG_SIZE SIZE_OF(bio_vec)
#endif

ALWAYS_INLINE int next_fragment(struct pieces *left)
{
	u32 offset, size;
	u64 page;

	page = FRAG_PAGE(left->fragment);
	size = FRAG_LEN(left->fragment);
	offset = FRAG_OFFSET(left->fragment);
	left->fragment += FRAG_SIZE;
	page = page_address(page);
	left->at = page + offset;
	left->size = size;
	return page != 0;
}

ALWAYS_INLINE struct sk_buff *frag_list_of(struct skb_shared_info *shared)
{
	return KREAD(shared, skb_shared_info, frag_list);
}

/* Continue with the fragments of an sk_buff. Returns its skb_shared_info. */
ALWAYS_INLINE struct skb_shared_info *enter_fragments(struct pieces *left, struct sk_buff *skb)
{
	struct skb_shared_info *shared = skb_shinfo(skb);
	u8 count = 0;

	READ(count, MEMBER(shared, skb_shared_info, nr_frags));
	left->fragment = address_of(MEMBER(shared, skb_shared_info, frags));
	left->fragments_end = left->fragment;
	left->fragments_end += count * FRAG_SIZE;
	return shared;
}

/* Continue with the next sk_buff of the frag_list. These have no frag_list themselves. */
ALWAYS_INLINE void next_skb(struct pieces *left)
{
	struct sk_buff *skb = left->skb;

	left->at = KREAD(skb, sk_buff, data);
	left->size = KREAD(skb, sk_buff, len) - KREAD(skb, sk_buff, data_len);
	left->skb = KREAD(skb, sk_buff, next);
	enter_fragments(left, skb);
}

/* Continue with the next piece. Returns 0 at the end, or if a fragment is unreadable. */
ALWAYS_INLINE int next_piece(struct pieces *left)
{
	if (left->fragment < left->fragments_end)
		return next_fragment(left);
	if (!left->skb)
		return 0;
	next_skb(left);
	return 1;
}

#endif
#endif
