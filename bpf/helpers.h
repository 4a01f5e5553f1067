/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The BPF helpers that the handlers call, by their number in enum bpf_func_id, and reads of kernel
 * memory.
 */
#ifndef __PYPWRU_HELPERS_H
#define __PYPWRU_HELPERS_H

#include "fields.h"
#include "switches.h"
#include "types.h"

/* Header sizes in bytes. */
#define ETHERNET_HEADER 14
#define MAC_HEADER_UNSET 0xffff /* skb_mac_header_was_set() */
#define VLAN_HEADER 4

#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   u64 flags) = (void *)2;
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
static long (*bpf_snprintf_btf)(char *to, u32 size, void *ptr, u32 ptr_size,
				u64 flags) = (void *)149;
static u64 (*bpf_get_func_ip)(void *ctx) = (void *)173;
static long (*bpf_get_func_arg)(void *ctx, u32 number, u64 *value) = (void *)183;

/*
 * Hide a value from the optimizer: it can't move a comparison away from the access that this
 * bounds, nor split a condition. Of ((a ^ b) | (c ^ d) | ...) != 0, however long, InstCombine of
 * LLVM 19 makes a != b | c != d | ... (foldICmpOrXorSubChain(); LLVM 14 does not). eBPF compares by
 * jumps alone, and the verifier walks all paths through them: 2^n for n words.
 */
#define OPAQUE(value)                            \
	({                                       \
		u64 value_ = value;              \
		asm volatile("" : "+r"(value_)); \
		value_;                          \
	})
/*
 * A constant that loading fills in (program/load_time.py): the compiler must not compute with its
 * placeholder.
 */
#define LOAD_TIME_CONST(constant) OPAQUE(constant)
#define ASSERT_VALUE_SIZE(map, type) \
	_Static_assert(sizeof(type) == VALUE_##map, "program/maps.py has another size of " #map)

/*
 * Pointers to structs of the kernel have the struct's type, so that the compiler refuses a mix-up:
 * KREAD() and MEMBER() take a pointer to the struct that they name, and no other.
 */
#pragma clang diagnostic error "-Wincompatible-pointer-types"
#pragma clang diagnostic error "-Wint-conversion"

/* The address as a number, for records, keys of maps and arithmetic. */
ALWAYS_INLINE u64 address_of(const void *object)
{
	return (u64)object;
}

/* Address of a member of the kernel struct that `from` points to. */
#define MEMBER(from, type, member)                                 \
	({                                                         \
		const struct type *from_ = (from);                 \
		(void *)(address_of(from_) + FIELD(type, member)); \
	})

/* Copy memory of the kernel to a variable; `from` is an address. Returns 0, or an error. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), (const void *)(from))

#define DEFINE_READ(type)                        \
	ALWAYS_INLINE type read_##type(u64 from) \
	{                                        \
		type value = 0;                  \
                                                 \
		READ(value, from);               \
		return value;                    \
	}
DEFINE_READ(u64)
DEFINE_READ(u32)
DEFINE_READ(u16)
DEFINE_READ(u8)

#define IF_SIZE(bytes, type, then, otherwise) \
	__builtin_choose_expr(sizeof(type) == (bytes), then, otherwise)
#define READ_AS(type) \
	IF_SIZE(8, type, read_u64, IF_SIZE(4, type, read_u32, IF_SIZE(2, type, read_u16, read_u8)))

/* The value of a member of the kernel struct that `from` points to; 0 if it can't be read. */
#define KREAD(from, type, member)                                 \
	((TYPE_##type##_##member)READ_AS(TYPE_##type##_##member)( \
		address_of(MEMBER(from, type, member))))

/* As in include/linux/skbuff.h: what is behind the memory of an sk_buff. */
ALWAYS_INLINE struct skb_shared_info *skb_shinfo(struct sk_buff *skb)
{
	return (void *)(KREAD(skb, sk_buff, head) + KREAD(skb, sk_buff, end));
}

ALWAYS_INLINE u16 swap16(u16 value)
{
	return __builtin_bswap16(value);
}

#endif
