/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nftables events where the kernel's own can't be enabled (nft/nft.h): a verdict is read where an
 * expression of a rule sets it, in its eval(expr, regs, pkt); the rule is the one that contains the
 * expression. Only verdicts are seen: no rules without one, and not the end of a chain. So a chain
 * counts as left when a rule of a chain below it on the jump stack gives a verdict.
 */
#ifndef PYPWRU_NFT_NFT_EVAL_H
#define PYPWRU_NFT_NFT_EVAL_H

#include "nft/nft.h"

#define NFT_BREAK (-2U)
#define NFT_REG_VERDICT 0

/*
 * Rules that are searched, at most. The verifier walks the loop for each, and keeps at most 8192
 * branches that it has not taken yet (BPF_COMPLEXITY_LIMIT_JMP_SEQ). A rule further on has no known
 * handle.
 */
#ifdef FIELD_nft_rule_blob_size
#define MAX_SEARCHED_RULES 4096

/* Address of the first rule of a generation's blob if the expression is in the blob, else 0. */
ALWAYS_INLINE u64 blob_rules_with(u64 expression, const void *generation)
{
	struct nft_rule_blob *blob = (void *)read_u64(address_of(generation));
	u64 rules = address_of(MEMBER(blob, nft_rule_blob, data));

	return expression - rules < KREAD(blob, nft_rule_blob, size) ? rules : 0;
}

/* Searches the blobs of both generations, since both are kept until the next commit. */
ALWAYS_INLINE u64 find_rule_handle(struct evaluation *evaluation, u64 expression,
				   struct nft_pktinfo *pkt)
{
	u64 rules = 0, header;
	int i;

	for (i = 0; i < MAX_CHAINS; i++) {
		struct nft_chain *chain = *chain_at(evaluation, evaluation->depth);

		rules = blob_rules_with(expression, MEMBER(chain, nft_chain, blob_gen_0));
		if (!rules)
			rules = blob_rules_with(expression, MEMBER(chain, nft_chain, blob_gen_1));
		if (rules || !evaluation->depth)
			break;
		evaluation->depth--;
	}
	if (!rules)
		return 0;
	for (i = 0; i < MAX_SEARCHED_RULES; i++) {
		header = read_u64(rules);
		rules += FIELD(nft_rule_dp, data) + (header >> 1 & 0xfff);
		if (expression < rules)
			return header >> 13 & RULE_HANDLE_MASK;
	}
	return 0;
}

#else /* before Linux 5.17 */
#define MAX_SEARCHED_RULES 2048

/*
 * Searches the array of this generation, which NULL ends. Not that of the other: it can point to
 * freed rules. A struct nft_rule is a list_head and a u64 in front of its expressions: 42 bits of
 * handle, 2 of genmask, 12 of dlen.
 */
ALWAYS_INLINE u64 find_rule_handle(struct evaluation *evaluation, u64 expression,
				   struct nft_pktinfo *pkt)
{
	struct net *net = KREAD(nft_state(pkt), nf_hook_state, net);
	u64 array, slot, rule, header;
	u8 generation = 0;
	int i;

	READ(generation, MEMBER(net, net, nft__gencursor));
	array = generation ? FIELD(nft_chain, rules_gen_1) : FIELD(nft_chain, rules_gen_0);
	slot = read_u64(address_of(*chain_at(evaluation, evaluation->depth)) + array);
	for (i = 0; i < MAX_SEARCHED_RULES; i++) {
		rule = read_u64(slot);
		slot += sizeof(rule);
		if (!rule) {
			if (!evaluation->depth)
				return 0;
			evaluation->depth--;
			slot = read_u64(address_of(*chain_at(evaluation, evaluation->depth)) +
					array);
			continue;
		}
		header = read_u64(rule + 16);
		if (expression - rule < 24 + (header >> 44 & 0xfff))
			return header & RULE_HANDLE_MASK;
	}
	return 0;
}

#endif

/*
 * The evaluation on this stack, and its nft_pktinfo; NULL if there is none, or another is in
 * progress inside it.
 */
ALWAYS_INLINE struct evaluation *current_evaluation(struct hit hit, struct nft_pktinfo **pkt)
{
	u64 stack = stack_key(hit.sp);
	struct nft_pktinfo **current = bpf_map_lookup_elem(MAP_nft_stacks, &stack);
	struct evaluation *evaluation;

	if (!current)
		return NULL;
	*pkt = *current;
	evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, pkt);
	return evaluation && !evaluation->nested_calls ? evaluation : NULL;
}

/* An expression has set the struct nft_verdict at `verdict`. */
ALWAYS_INLINE int handle_expr_verdict(struct hit hit, struct evaluation *evaluation,
				      struct nft_pktinfo *pkt, u64 expression,
				      struct nft_verdict *verdict)
{
	u32 code = KREAD(verdict, nft_verdict, code);

	if (code == NFT_CONTINUE || code == NFT_BREAK)
		return 0;
	if ((int)code >= 0)
		evaluation->has_verdict = 1;
	return emit_nft_event(hit, pkt, verdict, find_rule_handle(evaluation, expression, pkt),
			      NFT_TRACETYPE_RULE);
}

/*
 * The end without a rule's final verdict: it is the policy's, or that of a rule that was not seen,
 * without a handle.
 */
ALWAYS_INLINE int infer_final_verdict(struct hit hit, struct evaluation *evaluation,
				      struct nft_pktinfo *pkt, u32 code)
{
	struct nft_verdict *verdict = (void *)(address_of(&code) - FIELD(nft_verdict, code));
	u8 policy = chain_policy(evaluation->chains[0]);

	evaluation->has_verdict = 1;
	evaluation->depth = 0;
	return emit_nft_event(hit, pkt, verdict, 0,
			      policy == code ? NFT_TRACETYPE_POLICY : NFT_TRACETYPE_RULE);
}

#endif
