/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers on iptables-legacy: ipt_do_table() and the like, which evaluate the rules of one
 * table at one hook. They see the table, the hook and the verdict, but not the rule. A unit of its
 * own, as nft/nft.bpf.c is: each of the modules may be loaded later than pypwru starts. Compiled as
 * trace.bpf.c is.
 */
#include "probes.h"
#include "nft/record.h"

#define TRACETYPE_XTABLES 4 /* part_nft.type */
#define NFPROTO_BRIDGE 7
#define NF_BR_BROUTING 5
#define NF_INET_PRE_ROUTING 0
#define NF_INET_LOCAL_OUT 3
#define NAT_NAME 0x74616e /* "nat", little-endian */

/*
 * A call in progress; its key is the stack address of its return address, which no two have in
 * common.
 */
struct xt_call {
	struct sk_buff *skb;
	struct nf_hook_state *state;
	u64 table; /* address of the struct xt_table or ebt_table */
	u64 address;
	u64 caller;
	struct packet_id packet_id; /* of the packet */
};
ASSERT_VALUE_SIZE(xt_calls, struct xt_call);

ALWAYS_INLINE int enter_table(struct hit hit, struct sk_buff *skb, struct nf_hook_state *state,
			      u64 table)
{
	struct xt_call call = {
		.skb = skb,
		.state = state,
		.table = table,
		.address = hit.target,
		.caller = hit.caller,
	};
	u64 frame = hit.sp + RETURN_ADDRESS_SIZE;

	if (skb && is_match(hit, skb)) {
		call.packet_id = lookup_packet_id(skb, hit.target);
		bpf_map_update_elem(MAP_xt_calls, &frame, &call, 0);
	} else {
		bpf_map_delete_elem(MAP_xt_calls, &frame); /* of a call whose return was missed */
	}
	return 0;
}

/*
 * Store the table's name. The key is the table's address, since it has no handle. Returns the first
 * four bytes of the name.
 */
ALWAYS_INLINE u32 store_table_name(struct part_nft *nft)
{
	struct nft_key key = { .table = nft->table, .netns = nft->netns };
	u64 name = nft->table;
	struct nft_names *names = zeroed_names();

	if (!names)
		return 0;
	if (nft->family == NFPROTO_BRIDGE)
		name += FIELD(ebt_table, name);
	else
		name += FIELD(xt_table, name);
	/* 32: XT_TABLE_MAXNAMELEN, EBT_TABLE_MAXNAMELEN */
	bpf_probe_read_kernel_str(names->table, 32, (void *)name);
	store_names(&key, names);
	return *(u32 *)names->table;
}

/*
 * Priority of the hook. A struct ebt_table doesn't have it; `nat` is called by the hooks of nf_nat,
 * and has 0.
 */
ALWAYS_INLINE u32 hook_priority(struct part_nft *nft, int is_nat)
{
	if (nft->family == NFPROTO_BRIDGE)
		return 0;
	if (is_nat)
		return nft->hook == NF_INET_PRE_ROUTING || nft->hook == NF_INET_LOCAL_OUT ? -100
											  : 100;
	return KREAD((struct xt_table *)nft->table, xt_table, priority);
}

/* ebt_broute() treats NF_DROP as "don't bridge", and the hook gets NF_ACCEPT. */
ALWAYS_INLINE u32 effective_verdict(struct part_nft *nft)
{
	int is_routed = nft->family == NFPROTO_BRIDGE && nft->hook == NF_BR_BROUTING &&
			nft->verdict == NF_DROP;

	return is_routed ? VERDICT_ROUTE : nft->verdict;
}

ALWAYS_INLINE void fill_xt_table(struct part_nft *to, u64 table, struct nf_hook_state *state)
{
	to->table = table;
	READ(to->hook, MEMBER(state, nf_hook_state, hook));
	READ(to->family, MEMBER(state, nf_hook_state, pf));
	to->netns = read_netns_inum(KREAD(state, nf_hook_state, net));
	to->priority = hook_priority(to, store_table_name(to) == NAT_NAME);
}

ALWAYS_INLINE int leave_table(struct hit hit, u32 verdict)
{
	struct xt_call *call = bpf_map_lookup_elem(MAP_xt_calls, &hit.sp);
	int alive = skb_survives(verdict);
	struct part_nft nft = {};
	struct packet_id packet_id;
	struct sk_buff *skb;

	if (!call)
		return 0;
	skb = call->skb;
	packet_id = call->packet_id;
	hit.target = call->address;
	hit.caller = call->caller;
	nft.type = TRACETYPE_XTABLES;
	/*
	 * NF_DROP_REASON() frees the packet itself and returns NF_STOLEN with an errno: Linux
	 * commit e0d4593140b0
	 * ("netfilter: make nftables drops visible in net dropmonitor") (in v6.7).
	 */
	nft.verdict = alive || !(verdict >> 16) ? verdict & NF_VERDICT_MASK : NF_DROP;
	fill_xt_table(&nft, call->table, call->state);
	nft.verdict = effective_verdict(&nft);
	bpf_map_delete_elem(MAP_xt_calls, &hit.sp);
	if (alive)
		record_verdict(skb, &nft);
	write_nft_event(hit, skb, &nft, alive, NULL, &packet_id);
	return 0;
}

/*
 * (priv, skb, state) since Linux commit 8844e01062dd ("netfilter: iptables: allow use of
 * ipt_do_table as hookfn") (in v5.16), (skb, state, table) before.
 */
#if XT_SKB_FIRST
#define REG_SKB REG_ARG1
#define REG_STATE REG_ARG2
#define REG_TABLE REG_ARG3
#else
#define REG_TABLE REG_ARG1
#define REG_SKB REG_ARG2
#define REG_STATE REG_ARG3
#endif

int xt_table_entry(void *ctx)
{
	struct sk_buff *skb = (void *)CONTEXT(ctx, REG_SKB);
	struct nf_hook_state *state = (void *)CONTEXT(ctx, REG_STATE);

	return enter_table(KPROBE_HIT(ctx, EVENT_NFT_RULE), skb, state, CONTEXT(ctx, REG_TABLE));
}

int xt_table_exit(void *ctx)
{
	return leave_table(KPROBE_HIT(ctx, EVENT_NFT_RULE), CONTEXT(ctx, REG_RETVAL));
}
