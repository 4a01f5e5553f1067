/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The last final verdict of nftables on a packet, carried on its every later line (--output-nft). It lives and dies
 * with the sk_buff as what is tracked does (track.h), and goes on to what is made of it.
 */
#ifndef __PYPWRU_VERDICTS_H
#define __PYPWRU_VERDICTS_H

#include "helpers.h"
#include "event.h"
#include "counters.h"

#if NFT

#define NF_DROP 0
#define NF_STOLEN 2
#define NF_VERDICT_MASK 0xff

struct verdict {
	struct part_nft said;
	struct part_nft_at at;
};
VALUE_OF(verdicts, struct verdict);

/* Whether what gives verdicts could not all be hooked: none of it is known to be silent. */
ALWAYS_INLINE int is_unhooked(void)
{
	u32 key = 0;
	u64 *unhooked = bpf_map_lookup_elem(MAP_nft_unhooked, &key);

	return !unhooked || *unhooked;
}

/*
 * reason is that of the sight, 0 for none. nf_hook_slow() says that a hook's function dropped the packet, not which
 * one. Where the last that was said of it is no drop, it was another one's: conntrack's, say, whose table is full.
 */
ALWAYS_INLINE void fill_verdict(struct part_nft *to, struct part_nft_at *at, u64 skb, u64 reason)
{
	struct verdict *carried = bpf_map_lookup_elem(MAP_verdicts, &skb);

	if ((u32)reason == KNOWN_AT_LOAD(NETFILTER_DROP) &&
	    !(carried && (carried->said.verdict & NF_VERDICT_MASK) == NF_DROP)) {
		if (!is_unhooked())
			to->type = NFT_NO_RULE;
		return;
	}
	if (carried) {
		*to = carried->said;
		if (at)
			*at = carried->at;
	}
}

ALWAYS_INLINE void carry(u64 skb, struct verdict *verdict)
{
	if (!bpf_map_update_elem(MAP_verdicts, &skb, verdict, BPF_NOEXIST))
		COUNT(judged);
	else
		bpf_map_update_elem(MAP_verdicts, &skb, verdict, 0);
}

ALWAYS_INLINE void judge(u64 skb, struct part_nft *said)
{
	struct verdict verdict = { *said, { bpf_ktime_get_ns() } };

	carry(skb, &verdict);
}

ALWAYS_INLINE void forget_verdict(u64 skb)
{
	if (!bpf_map_delete_elem(MAP_verdicts, &skb))
		COUNT(unjudged);
}

/* A clone, copy or fragment was judged as its original was. */
ALWAYS_INLINE void copy_verdict(u64 made, u64 from)
{
	struct verdict *carried = bpf_map_lookup_elem(MAP_verdicts, &from);

	if (carried)
		carry(made, carried);
	else
		forget_verdict(made);
}

#else

ALWAYS_INLINE void forget_verdict(u64 skb) {}
ALWAYS_INLINE void copy_verdict(u64 made, u64 from) {}

#endif
#endif
