/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts behind struct event that the options of a run add, each at its offset: event.h,
 * wire/layout.py.
 */
#ifndef PYPWRU_PARTS_H
#define PYPWRU_PARTS_H

#include "helpers.h"
#include "event.h"
#include "flow.h"
#include "context.h"
#include "ct.h"
#include "nft/verdict_map.h"

/* Whether the records of this run have a part. */
#define HAS_PART(part) (WIRE_SIZE_##part != 0)
/*
 * Without the part this is the end of the record: the verifier refuses an access that no HAS_PART()
 * guards.
 */
#define PART(event, part) ((void *)(event) + WIRE_##part)
/* Zero a part; nothing without the part. */
#define CLEAR_PART(event, part) __builtin_memset(PART(event, part), 0, WIRE_SIZE_##part)

/* As in include/uapi/linux/bpf.h. */
struct btf_ptr {
	u64 address;
	u32 type;
	u32 flags;
};

static void (*skb_members)(struct sk_buff *skb, u64 *values) = (void *)MARKER_SKB_MEMBERS;
static void (*xdp_members)(struct xdp_buff *xdp, u64 *values) = (void *)MARKER_XDP_MEMBERS;

/*
 * Return addresses of the stack, innermost first. The rest is zeroed, so that equal stacks are
 * equal bytes.
 */
ALWAYS_INLINE void fill_frames(void *ctx, u64 *frames, u32 size)
{
	__builtin_memset(frames, 0, size);
	bpf_get_stack(ctx, frames, size, 0);
}

/* A kernel struct as text, NUL-terminated: what does not fit is cut. */
ALWAYS_INLINE void fill_text(char *to, u32 size, const void *object, u32 type)
{
	struct btf_ptr ptr = { .address = address_of(object), .type = type };

	if (bpf_snprintf_btf(to, size, &ptr, sizeof(ptr), 0) < 0)
		*to = 0;
}

/* Zero the parts that not every record fills. */
ALWAYS_INLINE void clear_tail(struct event *event)
{
	CLEAR_PART(event, metadata);
	CLEAR_PART(event, cb);
	CLEAR_PART(event, tunnel);
	CLEAR_PART(event, nft);
	CLEAR_PART(event, nft_time);
	CLEAR_PART(event, ct);
	CLEAR_PART(event, bytes);
	CLEAR_PART(event, packet_id);
	/* Texts: they end at a NUL. */
	if (HAS_PART(skb))
		*(char *)PART(event, skb) = 0;
	if (HAS_PART(shinfo))
		*(char *)PART(event, shinfo) = 0;
}

/*
 * The return address of a probed function is enough, except for a drop: names/symbols.py looks for
 * the caller behind functions that drop on behalf of others. Where the kernel can't walk the stack,
 * that address is all there is.
 */
ALWAYS_INLINE void fill_caller(struct part_caller *part, void *ctx, u64 caller, u64 reason)
{
	if (!caller ||
	    (LOCATE_DROPS && (u32)reason && (u32)reason != LOAD_TIME_CONST(REASON_CONSUMED))) {
		fill_frames(ctx, part->frames, sizeof(part->frames));
		if (!caller || part->frames[1] == caller) /* [0] is in the function itself */
			return;
	}
	__builtin_memset(part, 0, sizeof(*part));
	part->frames[0] = caller;
}

/* The parts that do not depend on the packet, sk_buff or frame. */
ALWAYS_INLINE void fill_tail(struct event *event, void *ctx, u64 caller)
{
	if (HAS_PART(caller))
		fill_caller(PART(event, caller), ctx, caller, event->reason);
	if (HAS_PART(stack)) {
		struct part_stack *stack = PART(event, stack);

		fill_frames(ctx, stack->frames, sizeof(stack->frames));
	}
	clear_tail(event);
}

#define NOT_IP 1

/* EtherType of the packet in a tunnel; 0 where only its header shows it. */
ALWAYS_INLINE u16 inner_type(struct sk_buff *skb, u64 l3)
{
	u16 type = 0;
	u8 flags = 0;

	READ(type, MEMBER(skb, sk_buff, inner_protocol));
	READ(flags, MEMBER(skb, sk_buff, inner_protocol_type));
	/* ENCAP_TYPE_IPPROTO: it is an IP protocol, of one byte. */
	if (flags >> BIT_sk_buff_inner_protocol_type & 1) {
		flags = type;
		return flags == PROTO_IPIP || flags == PROTO_IPV6 ? 0 : NOT_IP;
	}
	if (type == swap16(ETH_P_TEB))
		READ(type, l3 - 2);
	return type;
}

ALWAYS_INLINE void fill_cb(struct part_cb *part, struct sk_buff *skb)
{
	READ(part->words, MEMBER(skb, sk_buff, cb) + FIELD(qdisc_skb_cb, data));
}

ALWAYS_INLINE void fill_skb_tail(struct event *event, struct sk_buff *skb)
{
	if (HAS_PART(cb))
		fill_cb(PART(event, cb), skb);
	if (HAS_PART(tunnel)) {
		struct part_tunnel *tunnel = PART(event, tunnel);
		u64 l3 = KREAD(skb, sk_buff, head);
		u16 inner = 0;

		READ(inner, MEMBER(skb, sk_buff, inner_network_header));
		if (inner)
			fill_ip(TUPLE_DEST(tunnel), l3 + inner, inner_type(skb, l3 + inner));
	}
	if (OUTPUT_SKB_METADATA)
		skb_members(skb, PART(event, metadata));
	if (HAS_PART(nft))
		load_verdict(PART(event, nft), HAS_PART(nft_time) ? PART(event, nft_time) : NULL,
			     skb, event->reason);
	if (HAS_PART(ct))
		fill_ct(PART(event, ct), skb);
	if (HAS_PART(skb))
		fill_text(PART(event, skb), WIRE_SIZE_skb, skb, TYPE_ID(sk_buff));
	if (HAS_PART(shinfo))
		fill_text(PART(event, shinfo), WIRE_SIZE_shinfo, skb_shinfo(skb),
			  TYPE_ID(skb_shared_info));
}

ALWAYS_INLINE void fill_xdp_tail(struct event *event, struct xdp_buff *xdp)
{
	if (OUTPUT_XDP_METADATA)
		xdp_members(xdp, PART(event, metadata));
}

#endif
