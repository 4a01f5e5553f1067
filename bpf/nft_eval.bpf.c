/* SPDX-License-Identifier: GPL-2.0 */
/* The handlers on nftables for kernels whose trace events can't be enabled (nft_eval.h). Compiled as nft.bpf.c is. */
#include "probes.h"
#include "nft_eval.h"

/* nft_do_chain(pkt, chain), as in nft.bpf.c. */
int nft_in(void *ctx)
{
	return nft_enter(PROBE(0, EVENT_NFT_IN), CONTEXT(ctx, REG_ARG1), CONTEXT(ctx, REG_ARG2));
}

/* nft_immediate_eval(): the verdict is in the expression. */
int nft_immediate(void *ctx)
{
	u64 expression = CONTEXT(ctx, REG_ARG1), pkt = CONTEXT(ctx, REG_ARG3);
	u64 immediate = expression + OPTIONAL_FIELD(nft_expr, data);
	struct evaluation *evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, &pkt);
	u8 to = NFT_REG_VERDICT;

	if (!evaluation)
		return 0;
	READ(to, immediate, OPTIONAL_FIELD(nft_immediate_expr, dreg));
	if (to != NFT_REG_VERDICT)
		return 0;
	return nft_given(PROBE(0, EVENT_NFT_RULE), evaluation, pkt, expression,
			 immediate + OPTIONAL_FIELD(nft_immediate_expr, data));
}

/* All other expressions: the verdict is in the registers when they return. */
int nft_asked(void *ctx)
{
	u64 pkt = CONTEXT(ctx, REG_ARG3);
	struct evaluation *evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, &pkt);

	if (!evaluation)
		return 0;
	evaluation->expression = CONTEXT(ctx, REG_ARG1);
	evaluation->registers = CONTEXT(ctx, REG_ARG2);
	evaluation->address = FUNCTION(ctx);
	return 0;
}

int nft_answered(void *ctx)
{
	struct sight sight = PROBE(0, EVENT_NFT_RULE);
	u64 pkt, expression;
	struct evaluation *evaluation = nft_here(sight, &pkt);

	if (!evaluation || !evaluation->expression)
		return 0;
	expression = evaluation->expression;
	evaluation->expression = 0;
	sight.address = evaluation->address;
	return nft_given(sight, evaluation, pkt, expression,
			 evaluation->registers + OPTIONAL_FIELD(nft_regs, verdict));
}

/* The return of nft_do_chain(), as nft_out. */
int nft_decided(void *ctx)
{
	struct sight sight = PROBE(0, EVENT_NFT_RULE);
	u32 verdict = CONTEXT(ctx, REG_RETURNED);
	u64 pkt;
	struct evaluation *evaluation = nft_here(sight, &pkt);

	sight.address = KNOWN_AT_LOAD(SELF);
	if (evaluation && !evaluation->decided && (verdict & NF_VERDICT_MASK) != NF_STOLEN)
		nft_decide(sight, evaluation, pkt, verdict);
	sight.kind = EVENT_NFT_OUT;
	return nft_leave(sight, verdict);
}

/*
 * Since Linux v6.7 nft_do_chain() itself frees a dropped packet (NF_DROP_REASON()): the policy is recorded before that.
 */
int nft_dropped(void *ctx)
{
	struct sight sight = PROBE(0, EVENT_NFT_RULE);
	u64 pkt;
	struct evaluation *evaluation = nft_here(sight, &pkt);

	if (!evaluation || evaluation->decided || evaluation->expression || evaluation->skb != PACKET(ctx))
		return 0;
	sight.address = KNOWN_AT_LOAD(SELF);
	return nft_decide(sight, evaluation, pkt, NF_DROP);
}
