/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers on nftables for kernels whose trace events can't be enabled (nft/nft_eval.h).
 * Compiled as nft/nft.bpf.c is.
 */
#include "probes.h"
#include "nft/nft_eval.h"

/* nft_do_chain(pkt, chain), as in nft/nft.bpf.c. */
int nft_chain_entry(void *ctx)
{
	return enter_chain(KPROBE_HIT(ctx, EVENT_NFT_CHAIN_ENTRY), (void *)CONTEXT(ctx, REG_ARG1),
			   (void *)CONTEXT(ctx, REG_ARG2));
}

/* nft_immediate_eval(): the verdict is in the expression. */
int nft_immediate(void *ctx)
{
	struct nft_expr *expression = (void *)CONTEXT(ctx, REG_ARG1);
	struct nft_pktinfo *pkt = (void *)CONTEXT(ctx, REG_ARG3);
	struct nft_immediate_expr *immediate = MEMBER(expression, nft_expr, data);
	struct evaluation *evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, &pkt);
	u8 to = NFT_REG_VERDICT;

	if (!evaluation)
		return 0;
	READ(to, MEMBER(immediate, nft_immediate_expr, dreg));
	if (to != NFT_REG_VERDICT)
		return 0;
	return handle_expr_verdict(KPROBE_HIT(ctx, EVENT_NFT_RULE), evaluation, pkt,
				   address_of(expression),
				   MEMBER(immediate, nft_immediate_expr, data));
}

/* All other expressions: the verdict is in the registers when they return. */
int nft_expr_entry(void *ctx)
{
	struct nft_pktinfo *pkt = (void *)CONTEXT(ctx, REG_ARG3);
	struct evaluation *evaluation = bpf_map_lookup_elem(MAP_nft_evaluations, &pkt);

	if (!evaluation)
		return 0;
	evaluation->expression = CONTEXT(ctx, REG_ARG1);
	evaluation->regs = (void *)CONTEXT(ctx, REG_ARG2);
	evaluation->probe = FUNCTION_ADDRESS(ctx);
	return 0;
}

int nft_expr_exit(void *ctx)
{
	struct hit hit = KPROBE_HIT(ctx, EVENT_NFT_RULE);
	struct nft_pktinfo *pkt;
	u64 expression;
	struct evaluation *evaluation = current_evaluation(hit, &pkt);

	if (!evaluation || !evaluation->expression)
		return 0;
	expression = evaluation->expression;
	evaluation->expression = 0;
	hit.target = evaluation->probe;
	return handle_expr_verdict(hit, evaluation, pkt, expression,
				   MEMBER(evaluation->regs, nft_regs, verdict));
}

/* The return of nft_do_chain(), as nft_chain_exit. */
int nft_chain_exit_inferred(void *ctx)
{
	struct hit hit = KPROBE_HIT(ctx, EVENT_NFT_RULE);
	u32 verdict = CONTEXT(ctx, REG_RETVAL);
	struct nft_pktinfo *pkt;
	struct evaluation *evaluation = current_evaluation(hit, &pkt);

	hit.target = LOAD_TIME_CONST(SELF);
	if (evaluation && !evaluation->has_verdict && (verdict & NF_VERDICT_MASK) != NF_STOLEN)
		infer_final_verdict(hit, evaluation, pkt, verdict);
	hit.kind = EVENT_NFT_CHAIN_EXIT;
	return leave_chain(hit, verdict);
}

/*
 * Since Linux v6.7 nft_do_chain() itself frees a dropped packet (NF_DROP_REASON()): the policy is
 * recorded before that.
 */
int nft_skb_drop(void *ctx)
{
	struct hit hit = KPROBE_HIT(ctx, EVENT_NFT_RULE);
	struct nft_pktinfo *pkt;
	struct evaluation *evaluation = current_evaluation(hit, &pkt);

	if (!evaluation || evaluation->has_verdict || evaluation->expression ||
	    evaluation->skb != CTX_SKB(ctx))
		return 0;
	hit.target = LOAD_TIME_CONST(SELF);
	return infer_final_verdict(hit, evaluation, pkt, NF_DROP);
}
