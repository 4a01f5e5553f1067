/* SPDX-License-Identifier: GPL-2.0 */
/* A record of what was said of a packet: by nftables (nft.h) or by iptables-legacy (xtables.bpf.c). */
#ifndef __PYPWRU_SAID_H
#define __PYPWRU_SAID_H

#include "trace.h"

VALUE_OF(nft_names, struct nft_names);
VALUE_OF(names_scratch, struct nft_names);

/* Room that the stack has not; all of it is compared, hence zeroed. NULL can't be. */
ALWAYS_INLINE struct nft_names *no_names(void)
{
	u32 key = 0;
	struct nft_names *names = bpf_map_lookup_elem(MAP_names_scratch, &key);

	if (names)
		__builtin_memset(names, 0, sizeof(*names));
	return names;
}

/*
 * What tables and chains are called. Only what is new is put into the map: what another entry takes the place of is
 * used again at once, under the eyes of who reads it (kernel/bpf/hashtab.c, l_new replaces l_old).
 */
ALWAYS_INLINE void tell(struct nft_key *key, struct nft_names *names)
{
	u64 *now = (u64 *)names, *known = bpf_map_lookup_elem(MAP_nft_names, key);
	u64 differs = !known;
	int i;

	if (known) {
#pragma unroll
		for (i = 0; i < sizeof(*names) / sizeof(u64); i++)
			differs |= OPAQUE(known[i] ^ now[i]);
	}
	if (differs)
		bpf_map_update_elem(MAP_nft_names, key, names, 0);
}

/* The flow part of a record. */
#define FLOW __builtin_offsetof(struct event, netns)
struct flow {
	u64 part[(sizeof(struct event) - FLOW) / 8];
};

ALWAYS_INLINE int is_alive(u32 verdict)
{
	return (verdict & NF_VERDICT_MASK) != NF_STOLEN;
}

/*
 * known was learnt while the packet was there; its address may be another's by now. flow, if not NULL, is what was last
 * known of the packet's: of one that is no more it is what is written, of others it is learnt.
 */
ALWAYS_INLINE void write_nft(struct sight sight, u64 skb, struct part_nft *said, int alive, struct flow *flow,
			     struct known *known)
{
	struct counters *counters = admitted(sight.address, known);
	struct told told = {};
	struct event *event;
	struct flow *now;

	if (!counters)
		return;
	if (CAPTURE_EVERY && alive) /* these are no sights to choose from */
		choose(&told, skb, sight.address, 0);
	event = begin(sight, skb, known, &told, counters);
	if (!event)
		return;
	now = (void *)event + FLOW;
	if (alive) {
		fill_flow(event, skb);
		fill_skb_tail(event, skb);
		if (CAPTURE_EVERY)
			tell_skb(event, &told, skb);
		if (flow)
			*flow = *now;
	} else if (flow) {
		*now = *flow;
	} else {
		__builtin_memset(now, 0, sizeof(*now));
	}
	/* An answer that the kernel makes has neither device nor socket on its way out: nf_send_reset(). */
	if (event->netns != said->netns)
		event->netns_cookie = 0;
	event->netns = said->netns;
	*(struct part_nft *)PART(event, nft) = *said;
#ifdef WIRE_nft_at
	((struct part_nft_at *)PART(event, nft_at))->ktime = event->ktime;
#endif
	submit(event);
}

#endif
