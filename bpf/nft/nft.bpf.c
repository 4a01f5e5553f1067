/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers on nftables: a unit of its own, since nf_tables, and with it the layout of its
 * structs, may be loaded later than pypwru starts. Compiled as trace.bpf.c is.
 */
#include "probes.h"
#include "nft/nft.h"

/*
 * nft_do_chain(pkt, chain). At its return a probe can't query the function's address: SELF has it.

 */
int nft_chain_entry(void *ctx)
{
	return enter_chain(KPROBE_HIT(ctx, EVENT_NFT_CHAIN_ENTRY), (void *)CONTEXT(ctx, REG_ARG1),
			   (void *)CONTEXT(ctx, REG_ARG2));
}

int nft_chain_exit(void *ctx)
{
	struct hit hit = KPROBE_HIT(ctx, EVENT_NFT_CHAIN_EXIT);

	hit.target = LOAD_TIME_CONST(SELF);
	return leave_chain(hit, CONTEXT(ctx, REG_RETVAL));
}

/*
 * __nft_trace_packet(): (pkt, verdict, rule, info, type) since Linux 6.4, (info, chain, type)
 * before.
 */
#ifdef FIELD_nft_traceinfo_pkt
#define TRACE_INFO(ctx) ((struct nft_traceinfo *)CONTEXT(ctx, REG_ARG1))
#define TRACE_PKT(ctx) KREAD(TRACE_INFO(ctx), nft_traceinfo, pkt)
#define TRACE_VERDICT(ctx) KREAD(TRACE_INFO(ctx), nft_traceinfo, verdict)
#define TRACE_RULE(ctx) KREAD(TRACE_INFO(ctx), nft_traceinfo, rule)
#define REG_TRACE_TYPE REG_ARG3
#else
#define TRACE_PKT(ctx) ((struct nft_pktinfo *)CONTEXT(ctx, REG_ARG1))
#define TRACE_VERDICT(ctx) ((struct nft_verdict *)CONTEXT(ctx, REG_ARG2))
#define TRACE_RULE(ctx) CONTEXT(ctx, REG_ARG3)
#define REG_TRACE_TYPE REG_ARG5
#endif

int nft_trace_packet(void *ctx)
{
	struct hit hit = KPROBE_HIT(ctx, EVENT_NFT_RULE);
	struct nft_pktinfo *pkt = TRACE_PKT(ctx);
	struct nft_verdict *verdict = TRACE_VERDICT(ctx);
	u64 rule = TRACE_RULE(ctx);
	u8 type = CONTEXT(ctx, REG_TRACE_TYPE);

	return emit_nft_event(hit, pkt, verdict, nft_rule_handle(rule, type, verdict), type);
}
