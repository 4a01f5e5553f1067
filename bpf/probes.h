/* SPDX-License-Identifier: GPL-2.0 */
/* The hit that a handler runs for, by the kind of probe. */
#ifndef __PYPWRU_PROBES_H
#define __PYPWRU_PROBES_H

#include "arguments.h"
#include "trace.h"

/* The address of the context, which lies on the stack; through memory, since a pointer is no scalar to the verifier. */
ALWAYS_INLINE u64 depth_here(void *ctx)
{
	u64 depth = 0;
	void *here = ctx;

	READ(depth, &here, 0);
	return depth;
}

#if TRACK_STACK
#define DEPTH_HERE(ctx) depth_here(ctx)
#else
#define DEPTH_HERE(ctx) 0
#endif

/*
 * Tracing programs (fentry, fexit) and raw tracepoints: the context is an array of arguments, and lies on the stack. A
 * program can't query its target, so each target has a program of its own, with its number as SELF.
 */
#define TRACING(what, kind) ((struct sight){ ctx, what, KNOWN_AT_LOAD(SELF), REASON(ctx), 0, DEPTH_HERE(ctx), kind })

/*
 * kprobe and kprobe-multi: the arguments are in registers. The address is that of the kprobe, which need not be at the
 * entry (attach/kprobe.py); a kprobe-multi link only has that of the entry.
 */
#if BACKEND_KPROBE_MULTI
#define FUNCTION(ctx) bpf_get_func_ip(ctx)
#else
#define FUNCTION(ctx) (CONTEXT(ctx, REG_IP) - BREAKPOINT_SIZE)
#endif
#ifdef WIRE_caller
#define CALLER(ctx) RETURN_ADDRESS(ctx)
#else
#define CALLER(ctx) 0
#endif
#define PROBE(what, kind) \
	((struct sight){ ctx, what, FUNCTION(ctx), REASON(ctx), CALLER(ctx), CONTEXT(ctx, REG_SP), kind })

#endif
