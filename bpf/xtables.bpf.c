/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers on iptables-legacy: ipt_do_table() and the like, which evaluate the rules of one table at one hook. They
 * see the table, the hook and the verdict, but not the rule. A unit of its own, as nft.bpf.c is: each of the modules
 * may be loaded later than pypwru starts. Compiled as trace.bpf.c is.
 */
#include "probes.h"
#include "said.h"

#define XTABLES 4 /* part_nft.type */
#define NFPROTO_BRIDGE 7
#define NF_BR_BROUTING 5
#define NF_INET_PRE_ROUTING 0
#define NF_INET_LOCAL_OUT 3
#define NAT 0x74616e /* "nat", little-endian */

/* A call in progress; its key is the stack address of its return address, which no two have in common. */
struct xt_call {
	u64 skb;
	u64 state;
	u64 table;
	u64 address;
	u64 caller;
	struct known known; /* of the packet */
};
VALUE_OF(xt_calls, struct xt_call);

ALWAYS_INLINE int xt_enter(struct sight sight, u64 state, u64 table)
{
	struct xt_call call = { sight.packet, state, table, sight.address, sight.caller };
	u64 frame = sight.depth + RETURN_ADDRESS_SIZE;

	if (sight.packet && is_wanted(sight)) {
		call.known = identify(sight.packet, sight.address);
		bpf_map_update_elem(MAP_xt_calls, &frame, &call, 0);
	} else {
		bpf_map_delete_elem(MAP_xt_calls, &frame); /* of a call whose return was missed */
	}
	return 0;
}

/*
 * Store the table's name. The key is the table's address, since it has no handle. Returns the first four bytes of the
 * name.
 */
ALWAYS_INLINE u32 tell_table(struct part_nft *said)
{
	struct nft_key key = { said->table, 0, said->netns, 0 };
	u64 name = said->table;
	struct nft_names *names = no_names();

	if (!names)
		return 0;
	if (said->family == NFPROTO_BRIDGE)
		name += OPTIONAL_FIELD(ebt_table, name);
	else
		name += OPTIONAL_FIELD(xt_table, name);
	bpf_probe_read_kernel_str(names->table, 32, (void *)name); /* XT_TABLE_MAXNAMELEN, EBT_TABLE_MAXNAMELEN */
	tell(&key, names);
	return *(u32 *)names->table;
}

/* Priority of the hook. A struct ebt_table doesn't have it; `nat` is called by the hooks of nf_nat, and has 0. */
ALWAYS_INLINE u32 priority(struct part_nft *said, int is_nat)
{
	if (said->family == NFPROTO_BRIDGE)
		return 0;
	if (is_nat)
		return said->hook == NF_INET_PRE_ROUTING || said->hook == NF_INET_LOCAL_OUT ? -100 : 100;
	return read_u32(said->table + OPTIONAL_FIELD(xt_table, priority));
}

/* ebt_broute() treats NF_DROP as "don't bridge", and the hook gets NF_ACCEPT. */
ALWAYS_INLINE u32 meant(struct part_nft *said)
{
	int is_routed = said->family == NFPROTO_BRIDGE && said->hook == NF_BR_BROUTING && said->verdict == NF_DROP;

	return is_routed ? VERDICT_ROUTE : said->verdict;
}

ALWAYS_INLINE void fill_table(struct part_nft *to, u64 table, u64 state)
{
	to->table = table;
	READ(to->hook, state, OPTIONAL_FIELD(nf_hook_state, hook));
	READ(to->family, state, OPTIONAL_FIELD(nf_hook_state, pf));
	to->netns = netns_of(read_u64(state + OPTIONAL_FIELD(nf_hook_state, net)));
	to->priority = priority(to, tell_table(to) == NAT);
}

ALWAYS_INLINE int xt_leave(struct sight sight, u32 verdict)
{
	struct xt_call *call = bpf_map_lookup_elem(MAP_xt_calls, &sight.depth);
	int alive = is_alive(verdict);
	struct part_nft said = {};
	struct known known;
	u64 skb;

	if (!call)
		return 0;
	skb = call->skb;
	known = call->known;
	sight.address = call->address;
	sight.caller = call->caller;
	said.type = XTABLES;
	/* NF_DROP_REASON() frees the packet itself and returns NF_STOLEN with an errno (Linux commit 36d2d9f5e5f1). */
	said.verdict = alive || !(verdict >> 16) ? verdict & NF_VERDICT_MASK : NF_DROP;
	fill_table(&said, call->table, call->state);
	said.verdict = meant(&said);
	bpf_map_delete_elem(MAP_xt_calls, &sight.depth);
	if (alive)
		judge(skb, &said);
	write_nft(sight, skb, &said, alive, NULL, &known);
	return 0;
}

/*
 * (priv, skb, state) since Linux commit 8844e01062dd ("netfilter: iptables: allow use of ipt_do_table as hookfn") (in
 * v5.16), (skb, state, table) before.
 */
int xt_in(void *ctx)
{
#if XT_SKB_FIRST
	u64 skb = CONTEXT(ctx, REG_ARG1), state = CONTEXT(ctx, REG_ARG2), table = CONTEXT(ctx, REG_ARG3);
#else
	u64 table = CONTEXT(ctx, REG_ARG1), skb = CONTEXT(ctx, REG_ARG2), state = CONTEXT(ctx, REG_ARG3);
#endif

	return xt_enter(PROBE(skb, EVENT_NFT_RULE), state, table);
}

int xt_out(void *ctx)
{
	return xt_leave(PROBE(0, EVENT_NFT_RULE), CONTEXT(ctx, REG_RETURNED));
}
