/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The handlers, one for each kind of probe. A run compiles those that it needs: program/build.py
 * puts the layout of the kernel's structs in front (fields.h), and passes the switches
 * (switches.h), the numbers of maps and splices, and the constants that loading fills in
 * (program/load_time.py) as -D.
 */
#include "probes.h"
#include "bpfmap_calls.h"

/* fentry-multi: helpers return the address and the arguments of the function. */
#define MULTI_HIT(context)                                                           \
	((struct hit){                                                               \
		.ctx = context,                                                      \
		.target = bpf_get_func_ip(context),                                  \
		.reason = (u32)func_arg(context, LOAD_TIME_CONST(REASON_ARG_INDEX)), \
		.sp = STACK_POINTER(context),                                        \
		.kind = EVENT_FUNCTION,                                              \
	})

#if BACKEND_FENTRY_MULTI
#define HIT(ctx) MULTI_HIT(ctx)
#define SKB(ctx) ((struct sk_buff *)func_arg(ctx, LOAD_TIME_CONST(SKB_ARG_INDEX)))
#elif BACKEND_TRACEPOINT || BACKEND_FENTRY
#define HIT(ctx) TRACING_HIT(ctx, EVENT_FUNCTION)
#define SKB(ctx) CTX_SKB(ctx)
#else
#define HIT(ctx) KPROBE_HIT(ctx, EVENT_FUNCTION)
#define SKB(ctx) CTX_SKB(ctx)
#endif

/* A function with an sk_buff among its arguments. */
int trace_skb(void *ctx)
{
	struct sk_buff *skb = SKB(ctx);

	return handle_skb(HIT(ctx), skb);
}

/*
 * A terminal target: a function that frees the sk_buff when its data is freed, or a tracepoint
 * before that.
 */
int trace_skb_last(void *ctx)
{
	struct sk_buff *skb = SKB(ctx);
	struct hit hit = HIT(ctx);

	hit.is_freed = !BACKEND_TRACEPOINT;
	handle_skb(hit, skb);
	on_skb_free(skb);
	return 0;
}

#if TRACE_TC
int trace_tc(void *ctx)
{
	struct sk_buff *skb = (void *)CTX_ARG(ctx, 1);

	return handle_skb(TRACING_HIT(ctx, EVENT_TC), skb);
}
#endif

#if TRACE_XDP
int trace_xdp(void *ctx)
{
	struct xdp_buff *xdp = (void *)CTX_ARG(ctx, 1);

	return handle_frame(TRACING_HIT(ctx, EVENT_XDP), xdp);
}

#if TRACK_HEADS
#define XDP_DROP 1
#define XDP_TX 3

/* Only a frame that is passed on can become an sk_buff, or another program's frame. */
int trace_xdp_exit(void *ctx)
{
	struct xdp_buff *xdp = (void *)CTX_ARG(ctx, 1);
	u64 frame = KREAD(xdp, xdp_buff, data_hard_start);
	u32 verdict = CTX_ARG(ctx, 2);
	u64 *owner = bpf_map_lookup_elem(MAP_head_owners, &frame);

	if (!owner || !is_frame_owner(*owner))
		return 0;
	if (verdict <= XDP_DROP || verdict == XDP_TX)
		bpf_map_delete_elem(MAP_head_owners, &frame);
	else
		track_frame(frame);
	return 0;
}
#endif
#endif

/* The handlers below are attached as kprobes, whatever the backend of the functions. */

#if BACKEND_FENTRY || BACKEND_FENTRY_MULTI
/* As trace_skb and trace_skb_last, for functions to which fentry can't be attached. */
int probe_skb(void *ctx)
{
	struct sk_buff *skb = CTX_SKB(ctx);

	return handle_skb(KPROBE_HIT(ctx, EVENT_FUNCTION), skb);
}

int probe_skb_last(void *ctx)
{
	struct sk_buff *skb = CTX_SKB(ctx);
	struct hit hit = KPROBE_HIT(ctx, EVENT_FUNCTION);

	hit.is_freed = 1;
	handle_skb(hit, skb);
	on_skb_free(skb);
	return 0;
}
#endif

#if TRACK_STACK
/* A function without a packet, called while one is handled. */
int trace_nested_call(void *ctx)
{
	struct hit hit = KPROBE_HIT(ctx, EVENT_FUNCTION);
	struct sk_buff *skb = skb_on_stack(hit.sp);

	if (skb)
		write_skb_event(hit, skb);
	return 0;
}
#endif

#if OUTPUT_BPFMAP
#define MAP_CALL(ctx)                                  \
	((struct map_call){                            \
		.map = (void *)CONTEXT(ctx, REG_ARG1), \
		.key = CONTEXT(ctx, REG_ARG2),         \
		.value = CONTEXT(ctx, REG_ARG3),       \
	})

int trace_map_update(void *ctx)
{
	return handle_map_call(KPROBE_HIT(ctx, EVENT_MAP), MAP_CALL(ctx));
}

int trace_map_delete(void *ctx)
{
	struct map_call call = MAP_CALL(ctx);

	call.value = 0;
	return handle_map_call(KPROBE_HIT(ctx, EVENT_MAP), call);
}

/* The value is what a look-up returns: keep the call until then. */
int trace_map_lookup(void *ctx)
{
	return save_map_call(KPROBE_HIT(ctx, EVENT_MAP), MAP_CALL(ctx));
}

int trace_map_lookup_exit(void *ctx)
{
	return handle_map_return(KPROBE_HIT(ctx, EVENT_MAP), CONTEXT(ctx, REG_RETVAL));
}
#endif

#if TRACK_SKB || TRACK_STACK || NFT || CAPTURE_FIRST || PACKET_IDS
/* An sk_buff is freed. Attached to the functions that free and aren't traced themselves. */
int hook_skb_free(void *ctx)
{
	on_skb_free(CTX_SKB(ctx));
	return 0;
}
#endif

#if PACKET_IDS
#define BULK_SIZE 16 /* KFREE_SKB_BULK_SIZE */

/*
 * kmem_cache_free_bulk(cache, size, objects): frees the sk_buffs of a list, above all reassembled
 * fragments, since Linux commit eedade12f4cb ("net: kfree_skb_list use kmem_cache_free_bulk") (in
 * v6.3). Before, it frees no sk_buffs, and the verifier finds this handler too complex. Other
 * objects that it frees have no entries in the maps.
 */
int hook_skb_free_bulk(void *ctx)
{
	u64 size = CONTEXT(ctx, REG_ARG2), objects = CONTEXT(ctx, REG_ARG3);
	u32 i;

	for (i = 0; i < BULK_SIZE && i < size; i++)
		on_skb_free((void *)read_u64(objects + i * sizeof(u64)));
	return 0;
}
#endif

#if TRACK_SKB || NFT || CAPTURE_FIRST || PACKET_IDS
/* __build_skb_around(skb, ...): an sk_buff is built around other memory. */
int hook_skb_build(void *ctx)
{
	on_skb_alloc(CTX_SKB(ctx));
	return 0;
}

/* __alloc_skb() returns a new sk_buff. */
int hook_skb_alloc_exit(void *ctx)
{
	struct sk_buff *skb = (void *)CONTEXT(ctx, REG_RETVAL);

	if (skb)
		on_skb_alloc(skb);
	return 0;
}

/*
 * __copy_skb_header(new, old), ip_copy_metadata(to, from): the new sk_buff inherits the entries of
 * the old one.
 */
int hook_skb_copy(void *ctx)
{
	on_skb_copy((void *)CONTEXT(ctx, REG_ARG1), (void *)CONTEXT(ctx, REG_ARG2));
	return 0;
}
#endif
