/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arguments of the probed function. A handler is compiled once, whichever argument holds the
 * sk_buff: it reads its context at placeholder offsets that no context has, and
 * discovery/argument_slots.py patches in the real offset for each program that is loaded. A read of
 * an argument that the function lacks, such as the drop reason, becomes the constant 0.
 */
#ifndef PYPWRU_CONTEXT_H
#define PYPWRU_CONTEXT_H

#include "helpers.h"
#include "registers.h"

#define SLOT_SKB 0x7e00
#define SLOT_REASON 0x7e08

#define CTX_SKB(ctx) ((struct sk_buff *)CONTEXT(ctx, SLOT_SKB))
#define CTX_REASON(ctx) ((u32)CONTEXT(ctx, SLOT_REASON))

/* The context of tracing programs and raw tracepoints is an array of arguments; n counts from 1. */
#define CTX_ARG(ctx, n) CONTEXT(ctx, 8 * ((n) - 1))

/*
 * For a program on functions of many prototypes: an argument by its number, from 0 on; 0 if there
 * is none.
 */
ALWAYS_INLINE u64 func_arg(void *ctx, u64 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

#endif
