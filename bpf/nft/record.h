/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Records of nft events and verdicts: from nftables (nft/nft.h) or iptables-legacy
 * (nft/xtables.bpf.c).
 */
#ifndef PYPWRU_NFT_RECORD_H
#define PYPWRU_NFT_RECORD_H

#include "trace.h"

ASSERT_VALUE_SIZE(nft_names, struct nft_names);
ASSERT_VALUE_SIZE(names_scratch, struct nft_names);

/*
 * Memory for what the BPF stack can't hold. Zeroed, since all of it is compared. NULL only in the
 * verifier's eyes.
 */
ALWAYS_INLINE struct nft_names *zeroed_names(void)
{
	u32 key = 0;
	struct nft_names *names = bpf_map_lookup_elem(MAP_names_scratch, &key);

	if (names)
		__builtin_memset(names, 0, sizeof(*names));
	return names;
}

/*
 * Store the names of a table and a chain. The map is updated only if they changed: an element that
 * is replaced is reused at once, while the reader may be copying it (kernel/bpf/hashtab.c, l_new
 * replaces l_old).
 */
ALWAYS_INLINE void store_names(struct nft_key *key, struct nft_names *names)
{
	u64 *new = (u64 *)names, *stored = bpf_map_lookup_elem(MAP_nft_names, key);
	u64 differs = !stored;
	u32 i;

	if (stored) {
#pragma unroll
		for (i = 0; i < sizeof(*names) / sizeof(u64); i++)
			differs |= OPAQUE(stored[i] ^ new[i]);
	}
	if (differs)
		bpf_map_update_elem(MAP_nft_names, key, names, 0);
}

/* The flow part of a record. */
#define FLOW_OFFSET __builtin_offsetof(struct event, netns)
struct flow_part {
	u64 words[(sizeof(struct event) - FLOW_OFFSET) / 8];
};

/* Whether the sk_buff still belongs to the hook; a stolen one may have been freed. */
ALWAYS_INLINE int skb_survives(u32 verdict)
{
	return (verdict & NF_VERDICT_MASK) != NF_STOLEN;
}

/*
 * Write an nft event.
 * @packet_id: of the packet, read before its sk_buff could be freed.
 * @alive: the sk_buff has not been freed; otherwise its address may be reused.
 * @flow: the flow part of the packet's last record, or NULL. It is updated if the sk_buff is alive,
 * and written to the record otherwise.
 */
ALWAYS_INLINE void write_nft_event(struct hit hit, struct sk_buff *skb, struct part_nft *nft,
				   int alive, struct flow_part *flow, struct packet_id *packet_id)
{
	struct counters *counters = admit_event(hit.target, packet_id);
	struct capture capture = {};
	struct event *event;
	struct part_nft_time *time;
	struct flow_part *now;

	if (!counters)
		return;
	if (CAPTURE_EVERY && alive) /* nft events are neither first events nor capture points */
		decide_capture(&capture, skb, hit.target, 0);
	event = reserve_event(hit, address_of(skb), packet_id, &capture, counters);
	if (!event)
		return;
	now = (void *)event + FLOW_OFFSET;
	if (alive) {
		fill_flow(event, skb);
		fill_skb_tail(event, skb);
		if (CAPTURE_EVERY)
			capture_skb(event, &capture, skb);
		if (flow)
			*flow = *now;
	} else if (flow) {
		*now = *flow;
	} else {
		__builtin_memset(now, 0, sizeof(*now));
	}
	/*
	 * A reply that the kernel makes has neither device nor socket on its way out:
	 * nf_send_reset().
	 */
	if (event->netns != nft->netns)
		event->netns_cookie = 0;
	event->netns = nft->netns;
	*(struct part_nft *)PART(event, nft) = *nft;
	time = PART(event, nft_time);
	if (HAS_PART(nft_time))
		time->ktime = event->ktime;
	submit_event(event);
}

#endif
