/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The last final verdict on a packet, which is written with each of its later events (--output-nft). Entries are added
 * and removed by the hooks that track packets (track.h), and copied to clones, copies and fragments.
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

/* Whether some functions that give verdicts are not hooked: then the lack of a verdict proves nothing. */
ALWAYS_INLINE int is_unhooked(void)
{
	u32 key = 0;
	u64 *unhooked = bpf_map_lookup_elem(MAP_nft_unhooked, &key);

	return !unhooked || *unhooked;
}

/*
 * Fill in the packet's verdict. `reason` is that of the event, 0 for none. nf_hook_slow() drops with a reason that does
 * not name the hook function. If the last verdict is no drop, another function dropped the packet: conntrack with a
 * full table, for instance.
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

/* Store a packet's verdict. */
ALWAYS_INLINE void carry(u64 skb, struct verdict *verdict)
{
	if (!bpf_map_update_elem(MAP_verdicts, &skb, verdict, BPF_NOEXIST))
		COUNT(judged);
	else
		bpf_map_update_elem(MAP_verdicts, &skb, verdict, 0);
}

/* Record a final verdict. */
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

/* A clone, copy or fragment has the verdict of its original. */
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
