/* SPDX-License-Identifier: GPL-2.0-only */
/* What topology.py attaches: a TC program that calls helpers of maps, and an XDP program. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

static void *(*const map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const map_update_elem)(void *map, const void *key, const void *value,
				     __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*const map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} lab_seen SEC(".maps");

SEC("tc") int lab_tc(struct __sk_buff *skb)
{
	__u32 key = 0x6c6162; /* 'lab' */
	__u64 value = skb->len;

	if (map_lookup_elem(&lab_seen, &key))
		map_delete_elem(&lab_seen, &key);
	map_update_elem(&lab_seen, &key, &value, BPF_ANY);
	return TC_ACT_OK;
}

SEC("xdp") int lab_xdp(struct xdp_md *xdp)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
