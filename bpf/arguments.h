/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A handler is compiled once, whatever argument the packet is in: it reads its context at an offset that no
 * context has, and program/places.py puts the true one there for each program that is loaded. A place that a
 * program has not, such as the drop reason of a function that takes none, becomes the constant 0.
 */
#ifndef __PYPWRU_ARGUMENTS_H
#define __PYPWRU_ARGUMENTS_H

#include "helpers.h"
#include "registers.h"

#define PLACE_PACKET 0x7e00
#define PLACE_REASON 0x7e08

#define PACKET(ctx) CONTEXT(ctx, PLACE_PACKET)
#define REASON(ctx) ((u32)CONTEXT(ctx, PLACE_REASON))

/* The context of tracing programs and raw tracepoints is an array of arguments, 1 the first. */
#define ARGUMENT(ctx, n) CONTEXT(ctx, 8 * ((n) - 1))

/* One that serves functions of many prototypes asks for theirs, 0 the first; 0 is what there is not. */
ALWAYS_INLINE u64 argument(void *ctx, u64 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

#endif
