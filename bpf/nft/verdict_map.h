/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The last final verdict on a packet, which is written with each of its later events
 * (--output-nft). Entries are added and removed by the hooks that track packets (skb/track.h), and
 * copied to clones, copies and fragments.
 */
#ifndef PYPWRU_NFT_VERDICT_MAP_H
#define PYPWRU_NFT_VERDICT_MAP_H

#include "helpers.h"
#include "event.h"
#include "counters.h"

#define NF_DROP 0
#define NF_STOLEN 2
#define NF_VERDICT_MASK 0xff

struct verdict {
	struct part_nft nft;
	struct part_nft_time time;
};
ASSERT_VALUE_SIZE(verdicts, struct verdict);

/*
 * Whether some functions that give verdicts are not hooked: then the lack of a verdict proves
 * nothing.
 */
ALWAYS_INLINE int has_unhooked_sources(void)
{
	u32 key = 0;
	u64 *unhooked = bpf_map_lookup_elem(MAP_nft_unhooked, &key);

	return !unhooked || *unhooked;
}

/*
 * Fill in the packet's verdict. `reason` is that of the event, 0 for none. nf_hook_slow() drops
 * with a reason that does not name the hook function. If the last verdict is no drop, another
 * function dropped the packet: conntrack with a full table, for instance.
 */
ALWAYS_INLINE void load_verdict(struct part_nft *to, struct part_nft_time *at, struct sk_buff *skb,
				u64 reason)
{
	struct verdict *stored = bpf_map_lookup_elem(MAP_verdicts, &skb);

	if ((u32)reason == LOAD_TIME_CONST(REASON_NETFILTER_DROP) &&
	    !(stored && (stored->nft.verdict & NF_VERDICT_MASK) == NF_DROP)) {
		if (!has_unhooked_sources())
			to->type = NFT_NO_RULE;
		return;
	}
	if (stored) {
		*to = stored->nft;
		if (at)
			*at = stored->time;
	}
}

/* Store a packet's verdict. */
ALWAYS_INLINE void store_verdict(struct sk_buff *skb, struct verdict *verdict)
{
	if (!bpf_map_update_elem(MAP_verdicts, &skb, verdict, BPF_NOEXIST))
		INC_COUNTER(verdict_added);
	else
		bpf_map_update_elem(MAP_verdicts, &skb, verdict, 0);
}

/* Record a final verdict. */
ALWAYS_INLINE void record_verdict(struct sk_buff *skb, struct part_nft *nft)
{
	struct verdict verdict = { .nft = *nft, .time = { .ktime = bpf_ktime_get_ns() } };

	store_verdict(skb, &verdict);
}

ALWAYS_INLINE void remove_verdict(struct sk_buff *skb)
{
	if (!bpf_map_delete_elem(MAP_verdicts, &skb))
		INC_COUNTER(verdict_removed);
}

/* A clone, copy or fragment has the verdict of its original. */
ALWAYS_INLINE void copy_verdict(struct sk_buff *made, struct sk_buff *from)
{
	struct verdict *stored = bpf_map_lookup_elem(MAP_verdicts, &from);

	if (stored)
		store_verdict(made, stored);
	else
		remove_verdict(made);
}

#endif
