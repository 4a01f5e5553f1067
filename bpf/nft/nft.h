/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nftables events. The kernel calls __nft_trace_packet() for every rule that gave a verdict, every
 * statement-only rule that matched, every return and every policy while its static key
 * nft_trace_enabled is on; nft/trace_enable.py enables the key without touching a ruleset that is
 * traced.
 *
 * nft_do_chain() is entered with the base chain. The chain of a rule follows from there: a jump
 * pushes, a goto replaces, a return pops (nft_do_chain() of net/netfilter/nf_tables_core.c keeps
 * the same stack).
 */
#ifndef PYPWRU_NFT_NFT_H
#define PYPWRU_NFT_NFT_H

#include "nft/record.h"

#define NFT_TRACETYPE_POLICY 1
#define NFT_TRACETYPE_RULE 3
#define NFT_CONTINUE (-1U)
#define NFT_JUMP (-3U)
#define NFT_GOTO (-4U)
#define NFT_RETURN (-5U)

/* NFT_JUMP_STACK_SIZE is 16, and the base chain isn't on that; a power of two for chain_at(). */
#define MAX_CHAINS 32
#define MAX_JUMP_PATH 4

#define RULE_HANDLE_MASK ((1ULL << 42) - 1) /* nft_rule_dp.handle, nft_rule.handle */

/* An nft_do_chain() in progress; its key is the address of its struct nft_pktinfo. */
struct evaluation {
	struct sk_buff *skb;
	/* Of the evaluation that it interrupts: a rule can send packets. */
	struct nft_pktinfo *interrupted;
	struct nft_chain *chains[MAX_CHAINS]; /* the base chain first */
	u32 depth;
	u32 nested_calls; /* evaluations in progress inside it, of packets that don't match */
	struct flow_part last_flow; /* of the packet, in its last record */
	struct packet_id packet_id; /* of the packet */
	/* used by nft/nft_eval.h only */
	u64 expression;	       /* the one in progress that can give a verdict, or 0 */
	struct nft_regs *regs; /* its registers */
	u64 probe;	       /* address of the probe on its eval() */
	u64 has_verdict;       /* a rule's final verdict was recorded */
};

/*
 * In nft_pktinfo itself since Linux commit 897389de4828 ("netfilter: nf_tables: remove
 * xt_action_param from nft_pktinfo") (in v5.14), in its xt_action_param before.
 */
#ifdef FIELD_nft_pktinfo_state
ALWAYS_INLINE struct nf_hook_state *nft_state(struct nft_pktinfo *pkt)
{
	return KREAD(pkt, nft_pktinfo, state);
}
#else
ALWAYS_INLINE struct nf_hook_state *nft_state(struct nft_pktinfo *pkt)
{
	return KREAD(pkt, nft_pktinfo, xt__state);
}
#endif

/*
 * Bounds the index for the verifier by an instruction that the compiler can't remove as redundant.

 */
ALWAYS_INLINE struct nft_chain **chain_at(struct evaluation *evaluation, u64 depth)
{
	asm volatile("%0 &= %1" : "+r"(depth) : "i"(MAX_CHAINS - 1));
	return &evaluation->chains[depth];
}

/* As in include/net/netfilter/nf_tables.h: the struct around a chain that is a base chain. */
ALWAYS_INLINE struct nft_base_chain *nft_base_chain(struct nft_chain *chain)
{
	return (void *)(address_of(chain) - FIELD(nft_base_chain, chain));
}

ALWAYS_INLINE u8 chain_policy(struct nft_chain *chain)
{
	struct nft_base_chain *base = nft_base_chain(chain);
	u8 policy = 0;

	READ(policy, MEMBER(base, nft_base_chain, policy));
	return policy;
}

ALWAYS_INLINE u32 nft_family(struct nft_table *table)
{
	u16 family = 0;

	READ(family, MEMBER(table, nft_table, family));
	return family >> BIT_nft_table_family & 0x3f;
}

/*
 * Memory for what the BPF stack can't hold; handlers on kprobes don't interrupt each other on a CPU
 * (bpf_prog_active).
 */
ASSERT_VALUE_SIZE(nft_evaluations, struct evaluation);
ASSERT_VALUE_SIZE(nft_scratch, struct evaluation);

ALWAYS_INLINE struct evaluation *nft_scratch(void)
{
	u32 key = 0;

	return bpf_map_lookup_elem(MAP_nft_scratch, &key);
}

/*
 * The key of a chain in records: its handle, and above it a hash of its name. A rename gives a
 * chain a name in other memory (swap() in nft_chain_commit_update() of
 * net/netfilter/nf_tables_api.c), which may be that of the name before the last: so the hash
 * includes the first eight bytes of the name. No slab object has less than eight bytes. The
 * multiplier is that of Fibonacci hashing: the upper bits of the product depend on all bits.
 */
ALWAYS_INLINE u64 chain_key(struct nft_chain *chain)
{
	u64 name = KREAD(chain, nft_chain, name);
	u64 hash = (name ^ read_u64(name)) * 0x9e3779b97f4a7c15ULL;

	return KREAD(chain, nft_chain, handle) | hash >> CHAIN_HANDLE_BITS << CHAIN_HANDLE_BITS;
}

/* Write table, chain and base chain to a part; the table is the chain's. */
ALWAYS_INLINE void fill_nft_chain(struct part_nft *to, struct nft_chain *chain,
				  struct evaluation *evaluation, struct nf_hook_state *state)
{
	struct nft_table *table = KREAD(chain, nft_chain, table);
	struct nft_base_chain *base = nft_base_chain(evaluation->chains[0]);
	struct nf_hook_ops *ops = MEMBER(base, nft_base_chain, ops);
	u32 i;

	to->table = KREAD(table, nft_table, handle);
	to->chain = chain_key(chain);
	to->family = nft_family(table);
	to->priority = KREAD(ops, nf_hook_ops, priority);
	READ(to->hook, MEMBER(state, nf_hook_state, hook));
	to->netns = read_netns_inum(KREAD(state, nf_hook_state, net));
	to->depth = evaluation->depth;
#pragma unroll
	for (i = 0; i < MAX_JUMP_PATH; i++)
		to->jump_path[i] = i < evaluation->depth ? chain_key(evaluation->chains[i]) : 0;
}

/* Store the names of the chain and its table in the map `nft_names`. */
ALWAYS_INLINE void store_chain_names(struct part_nft *nft, u64 chain_key, struct nft_chain *chain)
{
	struct nft_key key = { .table = nft->table, .chain = chain_key, .netns = nft->netns };
	struct nft_table *table = KREAD(chain, nft_chain, table);
	struct nft_names *names = zeroed_names();

	if (!names)
		return;
	bpf_probe_read_kernel_str(names->table, sizeof(names->table),
				  (void *)KREAD(table, nft_table, name));
	bpf_probe_read_kernel_str(names->chain, sizeof(names->chain),
				  (void *)KREAD(chain, nft_chain, name));
	store_names(&key, names);
}

ALWAYS_INLINE int enter_chain(struct hit hit, struct nft_pktinfo *pkt, struct nft_chain *chain)
{
	u64 stack = stack_key(hit.sp);
	struct sk_buff *skb = KREAD(pkt, nft_pktinfo, skb);
	struct nft_pktinfo **interrupted = bpf_map_lookup_elem(MAP_nft_stacks, &stack);
	struct evaluation *fresh = nft_scratch(), *evaluation;
	struct part_nft nft = {};

	if (!skb || !is_match(hit, skb)) {
		evaluation = interrupted ? bpf_map_lookup_elem(MAP_nft_evaluations, interrupted)
					 : NULL;
		if (evaluation)
			evaluation->nested_calls++;
		return 0;
	}
	if (!fresh)
		return 0;
	fresh->skb = skb;
	fresh->interrupted = interrupted ? *interrupted : NULL;
	fresh->chains[0] = chain;
	fresh->depth = fresh->nested_calls = 0;
	__builtin_memset(&fresh->last_flow, 0, sizeof(fresh->last_flow));
	fresh->packet_id = lookup_packet_id(skb, hit.target);
	fresh->expression = fresh->has_verdict = 0;
	fill_nft_chain(&nft, chain, fresh, nft_state(pkt));
	store_chain_names(&nft, nft.chain, chain);
	write_nft_event(hit, skb, &nft, 1, &fresh->last_flow, &fresh->packet_id);
	bpf_map_update_elem(MAP_nft_evaluations, &pkt, fresh, 0);
	bpf_map_update_elem(MAP_nft_stacks, &stack, &pkt, 0);
	return 0;
}

ALWAYS_INLINE int leave_chain(struct hit hit, u32 verdict)
{
	u64 stack = stack_key(hit.sp);
	struct nft_pktinfo *pkt;
	struct nft_pktinfo **current = bpf_map_lookup_elem(MAP_nft_stacks, &stack);
	struct evaluation *evaluation;
	struct part_nft nft = {};
	int alive;

	if (!current)
		return 0;
	pkt = *current;
	evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, &pkt);
	if (!evaluation) {
		bpf_map_delete_elem(MAP_nft_stacks, &stack);
		return 0;
	}
	if (evaluation->nested_calls) {
		evaluation->nested_calls--;
		return 0;
	}
	evaluation->depth = 0;
	fill_nft_chain(&nft, evaluation->chains[0], evaluation, nft_state(pkt));
	alive = skb_survives(verdict);
	/*
	 * NF_DROP_REASON() frees the packet itself and returns NF_STOLEN with an errno: Linux
	 * commit e0d4593140b0
	 * ("netfilter: make nftables drops visible in net dropmonitor") (in v6.7).
	 */
	nft.verdict = alive || !(verdict >> 16) ? verdict : NF_DROP;
	write_nft_event(hit, evaluation->skb, &nft, alive, &evaluation->last_flow,
			&evaluation->packet_id);
	if (evaluation->interrupted)
		bpf_map_update_elem(MAP_nft_stacks, &stack, &evaluation->interrupted, 0);
	else
		bpf_map_delete_elem(MAP_nft_stacks, &stack);
	bpf_map_delete_elem(MAP_nft_evaluations, &pkt);
	return 0;
}

/*
 * Update the jump stack after a verdict. The base chain stays at the bottom also after a goto out
 * of it: at the end its policy counts.
 */
ALWAYS_INLINE void update_chain_stack(struct evaluation *evaluation, u32 verdict,
				      struct nft_chain *target)
{
	u32 depth = evaluation->depth;

	if (verdict == NFT_JUMP || (verdict == NFT_GOTO && !depth))
		depth++;
	else if (verdict == NFT_RETURN && depth)
		depth--;
	if (depth >= MAX_CHAINS)
		return;
	if (verdict == NFT_JUMP || verdict == NFT_GOTO)
		*chain_at(evaluation, depth) = target;
	evaluation->depth = depth;
}

/*
 * Write an nft event, and record the verdict if it is final. `rule` is a handle; 0: the policy, or
 * the end of a chain.
 */
ALWAYS_INLINE int emit_nft_event(struct hit hit, struct nft_pktinfo *pkt,
				 struct nft_verdict *verdict, u64 rule, u8 type)
{
	struct evaluation *evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, &pkt);
	struct part_nft nft = {};
	struct nft_chain *chain, *target = NULL;
	u32 depth;

	if (!evaluation)
		return 0;
	depth = evaluation->depth;
	if (type == NFT_TRACETYPE_POLICY)
		depth = evaluation->depth = 0;
	chain = *chain_at(evaluation, depth);
	fill_nft_chain(&nft, chain, evaluation, nft_state(pkt));
	nft.type = type;
	nft.rule = rule;
	if (type == NFT_TRACETYPE_POLICY) {
		nft.verdict = chain_policy(chain);
	} else {
		nft.verdict = KREAD(verdict, nft_verdict, code);
		if (nft.verdict == NFT_JUMP || nft.verdict == NFT_GOTO) {
			target = KREAD(verdict, nft_verdict, chain);
			nft.target = chain_key(target);
			store_chain_names(&nft, nft.target, target);
		}
	}
	store_chain_names(&nft, nft.chain, chain);
	/*
	 * NF_STOLEN: the packet may have been freed: nft_fwd_netdev_eval(), nft_synproxy_do_eval().

	 */
	if ((int)nft.verdict >= 0 && skb_survives(nft.verdict))
		record_verdict(evaluation->skb, &nft);
	write_nft_event(hit, evaluation->skb, &nft,
			(int)nft.verdict < 0 || skb_survives(nft.verdict), &evaluation->last_flow,
			&evaluation->packet_id);
	update_chain_stack(evaluation,
			   rule || nft.verdict != NFT_CONTINUE ? nft.verdict : NFT_RETURN, target);
	return 0;
}

/*
 * Handle of a rule; 0 for the end of a chain. Since Linux commit 2c865a8a28a1 ("netfilter:
 * nf_tables: add rule blob layout") (in v5.17) rules are packed in a blob, and the last one has
 * is_last set: it is the end of a chain, which the kernel reports as a return of that rule. Before,
 * the kernel reports the end of a chain with the rule that came last, whichever that was, and a
 * verdict other than NFT_RETURN.
 */
#ifdef FIELD_nft_rule_blob_size /* since v5.17 */
ALWAYS_INLINE u64 read_rule_handle(u64 rule, u8 type, struct nft_verdict *verdict)
{
	u64 packed = read_u64(rule);

	return packed & 1 ? 0 : packed >> 13 & RULE_HANDLE_MASK;
}
#else
ALWAYS_INLINE u64 read_rule_handle(u64 rule, u8 type, struct nft_verdict *verdict)
{
	if (type != NFT_TRACETYPE_RULE && KREAD(verdict, nft_verdict, code) != NFT_RETURN)
		return 0;
	return read_u64(rule + 16) /* behind its list_head */ & RULE_HANDLE_MASK;
}
#endif

/* The same for the rule of an nft event; `rule` is 0 if there is none. */
ALWAYS_INLINE u64 nft_rule_handle(u64 rule, u8 type, struct nft_verdict *verdict)
{
	if (!rule || type == NFT_TRACETYPE_POLICY)
		return 0;
	return read_rule_handle(rule, type, verdict);
}

#endif
