/* SPDX-License-Identifier: GPL-2.0 */
/* Integer types, and what is used everywhere. */
#ifndef PYPWRU_TYPES_H
#define PYPWRU_TYPES_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define NULL ((void *)0)
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#endif
