/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers, one for each kind of probe. A run compiles those that it needs. program/build.py puts the layout of the
 * kernel's structs in front (FIELD_*, TYPE_ID_*, BLOCK_*), and passes as -D TARGET_*, BACKEND_*, MAP_*, MARKER_*,
 * WIRE_*, FILTER*, OUTPUT_*, TRACE_*, TRACK_* and the constants that loading fills in (SELF, WANTED_*).
 */
#include "probes.h"
#include "maps.h"

/* fentry-multi: helpers return the address and the arguments of the function. */
#define MULTI(what)                                                                                                \
	((struct sight){ ctx, what, bpf_get_func_ip(ctx), (u32)argument(ctx, KNOWN_AT_LOAD(REASON_ARGUMENT)), 0,   \
			 DEPTH_HERE(ctx), EVENT_FUNCTION })

#if BACKEND_FENTRY_MULTI
#define SIGHT(what) MULTI(what)
#define SKB(ctx) argument(ctx, KNOWN_AT_LOAD(PACKET_ARGUMENT))
#elif BACKEND_TRACEPOINT || BACKEND_FENTRY
#define SIGHT(what) TRACING(what, EVENT_FUNCTION)
#define SKB(ctx) PACKET(ctx)
#else
#define SIGHT(what) PROBE(what, EVENT_FUNCTION)
#define SKB(ctx) PACKET(ctx)
#endif

/* A function with an sk_buff among its arguments. */
int trace_skb(void *ctx)
{
	return trace_packet(SIGHT(SKB(ctx)));
}

/* A terminal target: a function that frees the sk_buff when its data is freed, or a tracepoint before that. */
int trace_skb_last(void *ctx)
{
	u64 skb = SKB(ctx);
	struct sight sight = SIGHT(skb);

	sight.is_freed = !BACKEND_TRACEPOINT;
	trace_packet(sight);
	forget(skb);
	return 0;
}

#if TRACE_TC
int trace_tc(void *ctx)
{
	return trace_packet(TRACING(ARGUMENT(ctx, 1), EVENT_TC));
}
#endif

#if TRACE_XDP
int trace_xdp(void *ctx)
{
	return trace_frame(TRACING(ARGUMENT(ctx, 1), EVENT_XDP));
}

#if TRACK_HEADS
#define XDP_DROP 1
#define XDP_TX 3

/* Only a frame that is passed on can become an sk_buff, or another program's frame. */
int trace_xdp_exit(void *ctx)
{
	u64 frame = read_u64(ARGUMENT(ctx, 1) + FIELD(xdp_buff, data_hard_start));
	u32 verdict = ARGUMENT(ctx, 2);
	u64 *owner = bpf_map_lookup_elem(MAP_heads, &frame);

	if (!owner || !is_frame(*owner))
		return 0;
	if (verdict <= XDP_DROP || verdict == XDP_TX)
		bpf_map_delete_elem(MAP_heads, &frame);
	else
		track_head(frame, bpf_ktime_get_ns() << 1 | 1);
	return 0;
}
#endif
#endif

/* The handlers below are attached as kprobes, whatever the backend of the functions. */

#if BACKEND_FENTRY || BACKEND_FENTRY_MULTI
/* As trace_skb and trace_skb_last, for functions to which fentry can't be attached. */
int probe_skb(void *ctx)
{
	return trace_packet(PROBE(PACKET(ctx), EVENT_FUNCTION));
}

int probe_skb_last(void *ctx)
{
	u64 skb = PACKET(ctx);
	struct sight sight = PROBE(skb, EVENT_FUNCTION);

	sight.is_freed = 1;
	trace_packet(sight);
	forget(skb);
	return 0;
}
#endif

#if TRACK_STACK
/* A function without a packet, called while one is handled. */
int trace_stack(void *ctx)
{
	struct sight sight = PROBE(0, EVENT_FUNCTION);
	u64 skb = handled_at(sight.depth);

	if (skb)
		write_skb(sight, skb);
	return 0;
}
#endif

#if OUTPUT_BPFMAP
#define MAP_CALL(ctx) ((struct call){ CONTEXT(ctx, REG_ARG1), CONTEXT(ctx, REG_ARG2), CONTEXT(ctx, REG_ARG3) })

int trace_map_update(void *ctx)
{
	return trace_map(PROBE(0, EVENT_MAP), MAP_CALL(ctx));
}

int trace_map_delete(void *ctx)
{
	struct call call = MAP_CALL(ctx);

	call.value = 0;
	return trace_map(PROBE(0, EVENT_MAP), call);
}

/* The value is what a look-up returns: keep the call until then. */
int trace_map_lookup(void *ctx)
{
	return keep_call(PROBE(0, EVENT_MAP), MAP_CALL(ctx));
}

int trace_map_lookup_exit(void *ctx)
{
	return trace_kept(PROBE(0, EVENT_MAP), CONTEXT(ctx, REG_RETURNED));
}
#endif

#if TRACK_SKB || TRACK_STACK || NFT || CAPTURE_FIRST || IDENTIFY
/* An sk_buff is freed. Attached to the functions that free and aren't traced themselves. */
int forget_skb(void *ctx)
{
	forget(PACKET(ctx));
	return 0;
}
#endif

#if IDENTIFY
#define BULK 16 /* KFREE_SKB_BULK_SIZE */

/*
 * kmem_cache_free_bulk(cache, size, objects): frees the sk_buffs of a list, above all reassembled fragments, since
 * Linux commit eedade12f4cb ("net: kfree_skb_list use kmem_cache_free_bulk") (in v6.3). Before, it frees no sk_buffs,
 * and the verifier finds this handler too complex. Other objects that it frees have no entries in the maps.
 */
int forget_bulk(void *ctx)
{
	u64 size = CONTEXT(ctx, REG_ARG2), objects = CONTEXT(ctx, REG_ARG3);
	int i;

	for (i = 0; i < BULK && i < size; i++)
		forget(read_u64(objects + i * sizeof(u64)));
	return 0;
}
#endif

#if TRACK_SKB || NFT || CAPTURE_FIRST || IDENTIFY
/* __build_skb_around(skb, ...): an sk_buff is built around other memory. */
int born_skb(void *ctx)
{
	born(PACKET(ctx));
	return 0;
}

/* __alloc_skb() returns a new sk_buff. */
int born_skb_exit(void *ctx)
{
	u64 skb = CONTEXT(ctx, REG_RETURNED);

	if (skb)
		born(skb);
	return 0;
}

/* __copy_skb_header(new, old), ip_copy_metadata(to, from): the new sk_buff inherits the entries of the old one. */
int follow_copy(void *ctx)
{
	follow(CONTEXT(ctx, REG_ARG1), CONTEXT(ctx, REG_ARG2));
	return 0;
}
#endif
