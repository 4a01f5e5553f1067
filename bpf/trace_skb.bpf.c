/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers: one for each kind of probe, position of the skb and position of a drop reason.
 * Passed in by program/build.py: layout.h (FIELD_*, BLOCK_*), and as -D TARGET_*, BACKEND_*, MAP_*, MARKER_*,
 * FILTER*, OUTPUT_*.
 */
#include "layout.h"
#include "trace.h"
#include "registers.h"

#if BACKEND_TRACEPOINT

/*
 * Raw tracepoints: the context is the array of arguments. A program can't ask which tracepoint it runs for, so
 * program/load.py loads one a tracepoint, each with its own number in place of TRACEPOINT.
 */
#define TP(ctx, n) trace(CONTEXT(ctx, 8 * (n - 1)), TRACEPOINT, 0)
#define TP_REASON(ctx, n, r) trace(CONTEXT(ctx, 8 * (n - 1)), TRACEPOINT, (u32)CONTEXT(ctx, 8 * (r - 1)))

int trace_skb_1(void *ctx) { return TP(ctx, 1); }
int trace_skb_2(void *ctx) { return TP(ctx, 2); }
int trace_skb_3(void *ctx) { return TP(ctx, 3); }
int trace_skb_4(void *ctx) { return TP(ctx, 4); }
int trace_skb_5(void *ctx) { return TP(ctx, 5); }
int trace_skb_1_reason_3(void *ctx) { return TP_REASON(ctx, 1, 3); }

#else

/*
 * kprobe and kprobe-multi: the arguments are in registers. A kprobe says where it is, which need not be the
 * entry (attach/kprobe.py); a kprobe-multi link knows only the entry.
 */
#if BACKEND_KPROBE_MULTI
#define FUNCTION(ctx) bpf_get_func_ip(ctx)
#else
#define FUNCTION(ctx) (CONTEXT(ctx, REG_IP) - BREAKPOINT_SIZE)
#endif
#define KPROBE(ctx, n) trace(CONTEXT(ctx, REG_ARG##n), FUNCTION(ctx), 0)
#define KPROBE_REASON(ctx, n, r) trace(CONTEXT(ctx, REG_ARG##n), FUNCTION(ctx), (u32)CONTEXT(ctx, REG_ARG##r))

int trace_skb_1(void *ctx) { return KPROBE(ctx, 1); }
int trace_skb_2(void *ctx) { return KPROBE(ctx, 2); }
int trace_skb_3(void *ctx) { return KPROBE(ctx, 3); }
int trace_skb_4(void *ctx) { return KPROBE(ctx, 4); }
int trace_skb_5(void *ctx) { return KPROBE(ctx, 5); }
int trace_skb_1_reason_2(void *ctx) { return KPROBE_REASON(ctx, 1, 2); }
int trace_skb_2_reason_3(void *ctx) { return KPROBE_REASON(ctx, 2, 3); }

#endif
