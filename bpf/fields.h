/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel structs, as far as the handlers need them. Of each row program/layout.py defines macros
 * from the BTF of the running kernel; it reads nothing else of the C.
 *
 * - REQUIRED(struct, member, type): FIELD_struct_member is the offset of the member in bytes
 *   (`a__b` is the member a.b), SIZE_struct_member its size in bytes, BIT_struct_member, of a bit
 *   field, the number of its first bit in the byte at that offset. A kernel without the member is
 *   an error. `type` is that of KREAD(); ADDRESS where only the offset is used. The struct
 *   itself stays incomplete: KREAD() and MEMBER() are the only way to its members.
 * - OPTIONAL(struct, member, type): the same for a member that some kernels lack, or that is in a
 *   module's BTF. Without it there are no macros: what reads it is inside an #ifdef, or is compiled
 *   only where the structs of the module are known.
 * - IN_SKB_BLOCK(member): a member of struct sk_buff that is read together with others; BLOCK_START
 *   and BLOCK_SIZE span them all.
 * - STRUCT_SIZE(struct): SIZE_OF_struct is its size in bytes; undefined without such a struct.
 * - BTF_ID(struct): TYPE_ID_struct is its number in the BTF of vmlinux.
 */
#ifndef PYPWRU_FIELDS_H
#define PYPWRU_FIELDS_H

#include "types.h"

#define ADDRESS struct address_only /* incomplete: KREAD() of it is an error */
#define REQUIRED(type, member, as) \
	struct type;               \
	typedef as TYPE_##type##_##member;
#define OPTIONAL(type, member, as) REQUIRED(type, member, as)
#define IN_SKB_BLOCK(member)
#define STRUCT_SIZE(type)
#define BTF_ID(type)

REQUIRED(sk_buff, _skb_refdst, u64)
REQUIRED(sk_buff, cb, ADDRESS)
REQUIRED(sk_buff, data, u64)
REQUIRED(sk_buff, data_len, u32)
REQUIRED(sk_buff, dev, struct net_device *)
REQUIRED(sk_buff, end, u32)
REQUIRED(sk_buff, head, u64)
REQUIRED(sk_buff, inner_mac_header, u16)
REQUIRED(sk_buff, inner_network_header, u16)
REQUIRED(sk_buff, inner_protocol, u16)
REQUIRED(sk_buff, inner_protocol_type, u8)
REQUIRED(sk_buff, len, u32)
REQUIRED(sk_buff, mac_header, u16)
REQUIRED(sk_buff, mark, u32)
REQUIRED(sk_buff, network_header, u16)
REQUIRED(sk_buff, next, struct sk_buff *)
REQUIRED(sk_buff, pkt_type, u8)
REQUIRED(sk_buff, protocol, u16)
REQUIRED(sk_buff, queue_mapping, u16)
REQUIRED(sk_buff, sk, struct sock_common *)
REQUIRED(sk_buff, tail, u32)
REQUIRED(sk_buff, users, u32)
REQUIRED(sk_buff, vlan_proto, u16)
REQUIRED(sk_buff, vlan_tci, u16)
OPTIONAL(sk_buff, _nfct, u64)
OPTIONAL(sk_buff, vlan_present, u8)
IN_SKB_BLOCK(head)
IN_SKB_BLOCK(mac_header)
IN_SKB_BLOCK(network_header)
IN_SKB_BLOCK(tail)
BTF_ID(sk_buff)

REQUIRED(skb_shared_info, dataref, u32)
REQUIRED(skb_shared_info, frag_list, struct sk_buff *)
REQUIRED(skb_shared_info, frags, ADDRESS)
REQUIRED(skb_shared_info, nr_frags, u8)
OPTIONAL(skb_shared_info, xdp_frags_size, u32)
STRUCT_SIZE(skb_shared_info)
BTF_ID(skb_shared_info)

OPTIONAL(skb_frag, len, u32)
OPTIONAL(skb_frag, netmem, u64)
OPTIONAL(skb_frag, offset, u32)
STRUCT_SIZE(skb_frag)
OPTIONAL(bio_vec, bv_len, u32)
OPTIONAL(bio_vec, bv_offset, u32)
OPTIONAL(bio_vec, bv_page, u64)
STRUCT_SIZE(bio_vec)
STRUCT_SIZE(page)

REQUIRED(qdisc_skb_cb, data, ADDRESS)
REQUIRED(dst_entry, _metrics, u64)
REQUIRED(dst_entry, dev, struct net_device *)
REQUIRED(sock_common, skc_family, u16)
REQUIRED(sock_common, skc_net, struct net *)

REQUIRED(net_device, ifindex, u32)
REQUIRED(net_device, mtu, u32)
REQUIRED(net_device, name, ADDRESS)
REQUIRED(net_device, nd_net, struct net *)
REQUIRED(net_device, type, u16)

REQUIRED(net, ns__inum, u32)
OPTIONAL(net, net_cookie, u64)
OPTIONAL(net, nft__gencursor, u8)

REQUIRED(xdp_buff, data, u64)
REQUIRED(xdp_buff, data_end, u64)
REQUIRED(xdp_buff, data_hard_start, u64)
REQUIRED(xdp_buff, rxq, struct xdp_rxq_info *)
OPTIONAL(xdp_buff, flags, u32)
OPTIONAL(xdp_buff, frame_sz, u32)
REQUIRED(xdp_rxq_info, dev, struct net_device *)
REQUIRED(xdp_rxq_info, queue_index, u32)

REQUIRED(task_struct, group_leader, struct task_struct *)
REQUIRED(task_struct, mm, struct mm_struct *)
REQUIRED(task_struct, stack, u64)
REQUIRED(task_struct, start_boottime, u64)
REQUIRED(mm_struct, start_stack, u64)

REQUIRED(bpf_map, id, u32)
REQUIRED(bpf_map, key_size, u32)
REQUIRED(bpf_map, name, ADDRESS)
REQUIRED(bpf_map, value_size, u32)

/* nf_conntrack */
OPTIONAL(nf_conn, ct_general__use, u32)
OPTIONAL(nf_conn, mark, u32)
OPTIONAL(nf_conn, status, u64)
OPTIONAL(nf_conn, tuplehash, ADDRESS)
OPTIONAL(nf_conn, zone__id, u16)
OPTIONAL(nf_conntrack_tuple, dst__protonum, u8)
OPTIONAL(nf_conntrack_tuple, dst__u, u16)
OPTIONAL(nf_conntrack_tuple, dst__u3, ADDRESS)
OPTIONAL(nf_conntrack_tuple, src__l3num, u16)
OPTIONAL(nf_conntrack_tuple, src__u, u16)
OPTIONAL(nf_conntrack_tuple, src__u3, ADDRESS)
OPTIONAL(nf_conntrack_tuple_hash, tuple, ADDRESS)

/*
 * netfilter. `hook` is an unsigned int before v5.17: its first byte is the number on little-endian
 * machines.
 */
OPTIONAL(nf_hook_ops, priority, u32)
OPTIONAL(nf_hook_state, hook, u8)
OPTIONAL(nf_hook_state, net, struct net *)
OPTIONAL(nf_hook_state, pf, u8)

/* nf_tables */
OPTIONAL(nft_base_chain, chain, ADDRESS)
OPTIONAL(nft_base_chain, ops, ADDRESS)
OPTIONAL(nft_base_chain, policy, u8)
OPTIONAL(nft_chain, blob_gen_0, ADDRESS)
OPTIONAL(nft_chain, blob_gen_1, ADDRESS)
OPTIONAL(nft_chain, handle, u64)
OPTIONAL(nft_chain, name, u64)
OPTIONAL(nft_chain, rules_gen_0, ADDRESS)
OPTIONAL(nft_chain, rules_gen_1, ADDRESS)
OPTIONAL(nft_chain, table, struct nft_table *)
OPTIONAL(nft_expr, data, ADDRESS)
OPTIONAL(nft_immediate_expr, data, ADDRESS)
OPTIONAL(nft_immediate_expr, dreg, u8)
OPTIONAL(nft_pktinfo, skb, struct sk_buff *)
OPTIONAL(nft_pktinfo, state, struct nf_hook_state *)
OPTIONAL(nft_pktinfo, xt__state, struct nf_hook_state *)
OPTIONAL(nft_regs, verdict, ADDRESS)
OPTIONAL(nft_rule_blob, data, ADDRESS)
OPTIONAL(nft_rule_blob, size, u64)
OPTIONAL(nft_rule_dp, data, ADDRESS)
OPTIONAL(nft_table, family, u8)
OPTIONAL(nft_table, handle, u64)
OPTIONAL(nft_table, name, u64)
OPTIONAL(nft_traceinfo, pkt, struct nft_pktinfo *)
OPTIONAL(nft_traceinfo, rule, u64)
OPTIONAL(nft_traceinfo, verdict, struct nft_verdict *)
OPTIONAL(nft_verdict, chain, struct nft_chain *)
OPTIONAL(nft_verdict, code, u32)

/* ip_tables, ip6_tables, arp_tables, ebtables */
OPTIONAL(ebt_table, name, ADDRESS)
OPTIONAL(xt_table, name, ADDRESS)
OPTIONAL(xt_table, priority, u32)

/* Offset of a member in its struct, in bytes. */
#define FIELD(type, member) FIELD_##type##_##member
#define TYPE_ID(type) TYPE_ID_##type
#define SIZE_OF(type) SIZE_OF_##type

#endif
