/* SPDX-License-Identifier: GPL-2.0 */
/* Types, and the BPF helpers that the handlers call, by their number in enum bpf_func_id. */
#ifndef __PYPWRU_HELPERS_H
#define __PYPWRU_HELPERS_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define NULL ((void *)0)
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Header sizes in bytes. */
#define ETHERNET_HEADER 14
#define MAC_HEADER_UNSET 0xffff /* skb_mac_header_was_set() */
#define VLAN_HEADER 4

#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *to, u32 size) = (void *)16;
static u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_get_stack)(void *ctx, void *to, u32 size, u64 flags) = (void *)67;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static void *(*bpf_ringbuf_reserve)(void *map, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *record, u64 flags) = (void *)132;
static void (*bpf_ringbuf_discard)(void *record, u64 flags) = (void *)133;
static long (*bpf_snprintf_btf)(char *to, u32 size, void *ptr, u32 ptr_size, u64 flags) = (void *)149;
static u64 (*bpf_get_func_ip)(void *ctx) = (void *)173;
static long (*bpf_get_func_arg)(void *ctx, u32 number, u64 *value) = (void *)183;

/*
 * Kernel structs. FIELD() of a struct and a member is the member's offset in bytes, from BTF; program/layout.py finds
 * every FIELD() in these sources and defines its macro. `a__b` is the member a.b. A member that some kernels lack is an
 * OPTIONAL_FIELD(), inside an #ifdef of the macro that it expands to.
 */
#define FIELD(type, member) FIELD_##type##_##member
#define OPTIONAL_FIELD(type, member) FIELD(type, member)
#define TYPE_ID(type) TYPE_ID_##type /* id of a struct in the kernel's BTF */
#define SIZE_OF(type) SIZE_OF_##type /* size of a kernel struct in bytes */
/*
 * Hide a value from the optimizer: it can't move a comparison away from the access that this bounds, nor split a
 * condition. Of ((a ^ b) | (c ^ d) | ...) != 0, however long, InstCombine of LLVM 19 makes a != b | c != d | ...
 * (foldICmpOrXorSubChain(); LLVM 14 does not). eBPF compares by jumps alone, and the verifier walks all paths through
 * them: 2^n for n words.
 */
#define OPAQUE(value)                            \
	({                                       \
		u64 value_ = value;              \
		asm volatile("" : "+r"(value_)); \
		value_;                          \
	})
/* A constant that loading fills in (program/load_time.py): the compiler must not compute with its placeholder. */
#define LOAD_TIME_CONST(constant) OPAQUE(constant)
#define ASSERT_VALUE_SIZE(map, type) \
	_Static_assert(sizeof(type) == VALUE_##map, "program/maps.py has another size of " #map)
#define READ(to, from, field) bpf_probe_read_kernel(&(to), sizeof(to), (const void *)((from) + (field)))

ALWAYS_INLINE u64 read_u64(u64 from)
{
	u64 value = 0;

	READ(value, from, 0);
	return value;
}

ALWAYS_INLINE u32 read_u32(u64 from)
{
	u32 value = 0;

	READ(value, from, 0);
	return value;
}

ALWAYS_INLINE u16 swap16(u16 value)
{
	return __builtin_bswap16(value);
}

#endif
