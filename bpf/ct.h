/* SPDX-License-Identifier: GPL-2.0 */
/* The packet's conntrack entry (--output-ct): the struct nf_conn that skb->_nfct points to. */
#ifndef __PYPWRU_CT_H
#define __PYPWRU_CT_H

#include "helpers.h"
#include "event.h"

#if WIRE_SIZE_ct /* only if the types of conntrack are known: program/conntrack_types.py */

#define CT_INFO_MASK 7ULL /* NFCT_INFOMASK: enum ip_conntrack_info, in low bits of the pointer */
#define AF_INET 2
#define AF_INET6 10

/* The members of struct part_ct for one direction. */
struct ct_tuple_dest {
	u32 *saddr, *daddr;
	u16 *sport, *dport;
};

#define CT_TUPLE_DEST(part, way)               \
	((struct ct_tuple_dest){               \
		.saddr = (part)->way##_saddr,  \
		.daddr = (part)->way##_daddr,  \
		.sport = &(part)->way##_sport, \
		.dport = &(part)->way##_dport, \
	})

/* Unused bytes of an address are zero: nf_ct_get_tuple(). */
ALWAYS_INLINE void fill_ct_tuple(struct ct_tuple_dest to, const u8 *tuple)
{
	__builtin_memcpy(to.saddr, tuple + FIELD(nf_conntrack_tuple, src__u3), 16);
	__builtin_memcpy(to.daddr, tuple + FIELD(nf_conntrack_tuple, dst__u3), 16);
	*to.sport = *(u16 *)(tuple + FIELD(nf_conntrack_tuple, src__u));
	*to.dport = *(u16 *)(tuple + FIELD(nf_conntrack_tuple, dst__u));
}

#ifdef FIELD_nf_conn_zone__id /* CONFIG_NF_CONNTRACK_ZONES */
ALWAYS_INLINE void fill_ct_zone(struct part_ct *to, struct nf_conn *conn)
{
	READ(to->zone, MEMBER(conn, nf_conn, zone__id));
}
#else
ALWAYS_INLINE void fill_ct_zone(struct part_ct *to, struct nf_conn *conn) {}
#endif

#ifdef FIELD_nf_conn_mark /* CONFIG_NF_CONNTRACK_MARK */
ALWAYS_INLINE void fill_ct_mark(struct part_ct *to, struct nf_conn *conn)
{
	to->mark = KREAD(conn, nf_conn, mark);
}
#else
ALWAYS_INLINE void fill_ct_mark(struct part_ct *to, struct nf_conn *conn) {}
#endif

/* `to` is zeroed by the caller. */
ALWAYS_INLINE void fill_ct(struct part_ct *to, struct sk_buff *skb)
{
	u64 tracked = KREAD(skb, sk_buff, _nfct);
	struct nf_conn *conn = (void *)(tracked & ~CT_INFO_MASK);
	u64 tuples = address_of(MEMBER(conn, nf_conn, tuplehash)) +
		     FIELD(nf_conntrack_tuple_hash, tuple);
	/* struct nf_conntrack_tuple up to protonum, the last member that is read */
	u8 tuple[FIELD(nf_conntrack_tuple, dst__protonum) + 1] __attribute__((aligned(8)));
	u16 family;

	if (!tracked)
		return;
	/*
	 * skb_release_head_state() drops the packet's reference and leaves the pointer. From then
	 * on a connection without other references is freed, and its memory reused.
	 */
	if (conn && !KREAD(conn, nf_conn, ct_general__use))
		return;
	to->state = (tracked & CT_INFO_MASK) + 1;
	if (!conn) /* IP_CT_UNTRACKED */
		return;
	to->status = KREAD(conn, nf_conn, status);
	fill_ct_zone(to, conn);
	fill_ct_mark(to, conn);
	bpf_probe_read_kernel(tuple, sizeof(tuple), (void *)tuples);
	family = *(u16 *)(tuple + FIELD(nf_conntrack_tuple, src__l3num));
	to->l3 = family == AF_INET ? 4 : family == AF_INET6 ? 6 : 0;
	to->l4 = tuple[FIELD(nf_conntrack_tuple, dst__protonum)];
	fill_ct_tuple(CT_TUPLE_DEST(to, original), tuple);
	/* tuplehash[IP_CT_DIR_MAX]: the second is the reply direction's */
	bpf_probe_read_kernel(tuple, sizeof(tuple), (void *)(tuples + SIZE_nf_conn_tuplehash / 2));
	fill_ct_tuple(CT_TUPLE_DEST(to, reply), tuple);
}

#else

ALWAYS_INLINE void fill_ct(struct part_ct *to, struct sk_buff *skb) {}

#endif
#endif
