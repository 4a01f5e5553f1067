/* SPDX-License-Identifier: GPL-2.0 */
/* The hit that a handler runs for, by the kind of probe. */
#ifndef __PYPWRU_PROBES_H
#define __PYPWRU_PROBES_H

#include "context.h"
#include "trace.h"

/*
 * The address of the context, which lies on the stack; through memory, since a pointer is no scalar
 * to the verifier.
 */
ALWAYS_INLINE u64 stack_pointer(void *ctx)
{
	u64 sp = 0;
	void *here = ctx;

	READ(sp, &here);
	return sp;
}

#define STACK_POINTER(ctx) (TRACK_STACK ? stack_pointer(ctx) : 0)

/*
 * Tracing programs (fentry, fexit) and raw tracepoints: the context is an array of arguments, and
 * lies on the stack. A program can't query its target, so each target has a program of its own,
 * with its number as SELF.
 */
#define TRACING_HIT(context, event_kind)         \
	((struct hit){                           \
		.ctx = context,                  \
		.target = LOAD_TIME_CONST(SELF), \
		.reason = CTX_REASON(context),   \
		.sp = STACK_POINTER(context),    \
		.kind = event_kind,              \
	})

/*
 * kprobe and kprobe-multi: the arguments are in registers. The address is that of the kprobe, which
 * need not be at the entry (attach/kprobe.py); a kprobe-multi link only has that of the entry.
 */
#if BACKEND_KPROBE_MULTI
#define FUNCTION_ADDRESS(ctx) bpf_get_func_ip(ctx)
#else
#define FUNCTION_ADDRESS(ctx) (CONTEXT(ctx, REG_IP) - BREAKPOINT_SIZE)
#endif
#define CALLER(ctx) (HAS_PART(caller) ? RETURN_ADDRESS(ctx) : 0)
#define KPROBE_HIT(context, event_kind)              \
	((struct hit){                               \
		.ctx = context,                      \
		.target = FUNCTION_ADDRESS(context), \
		.reason = CTX_REASON(context),       \
		.caller = CALLER(context),           \
		.sp = CONTEXT(context, REG_SP),      \
		.kind = event_kind,                  \
	})

#endif
