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
	return enter_chain(KPROBE_HIT(0, EVENT_NFT_CHAIN_ENTRY), CONTEXT(ctx, REG_ARG1),
			   CONTEXT(ctx, REG_ARG2));
}

int nft_chain_exit(void *ctx)
{
	struct hit hit = KPROBE_HIT(0, EVENT_NFT_CHAIN_EXIT);

	hit.target = LOAD_TIME_CONST(SELF);
	return leave_chain(hit, CONTEXT(ctx, REG_RETVAL));
}

/*
 * __nft_trace_packet(): (pkt, verdict, rule, info, type) since Linux 6.4, (info, chain, type)
 * before.
 */
int nft_trace_packet(void *ctx)
{
	struct hit hit = KPROBE_HIT(0, EVENT_NFT_RULE);
#ifdef FIELD_nft_traceinfo_pkt
	u64 info = CONTEXT(ctx, REG_ARG1);
	u8 type = CONTEXT(ctx, REG_ARG3);
	u64 pkt = KREAD(info, nft_traceinfo, pkt);
	u64 verdict = KREAD(info, nft_traceinfo, verdict);
	u64 rule = KREAD(info, nft_traceinfo, rule);
#else
	u64 pkt = CONTEXT(ctx, REG_ARG1), verdict = CONTEXT(ctx, REG_ARG2),
	    rule = CONTEXT(ctx, REG_ARG3);
	u8 type = CONTEXT(ctx, REG_ARG5);
#endif

	return emit_nft_event(hit, pkt, verdict, nft_rule_handle(rule, type, verdict), type);
}
