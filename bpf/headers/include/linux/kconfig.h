/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All of the "kernel tree" that BCC gets (BCC_KERNEL_SOURCE points at this folder).
 *
 * BCC includes this file first, then its own copies of linux/bpf.h and of its helpers, which would include a real
 * kernel's headers. Their include guards are defined here, so that nothing else is read: helpers.h beside trace.bpf.c
 * declares the few helpers that are called, and program/layout.py defines the offsets of the running kernel's fields.
 */
#ifndef __PYPWRU_KCONFIG_H
#define __PYPWRU_KCONFIG_H

#define _UAPI__LINUX_BPF_H__
#define __LINUX_BPF_H__
#define __BPF_HELPERS_H

/* BCC appends a footer that puts the license into its own section with this macro. */
#define BCC_SEC(NAME) __attribute__((section(NAME), used))

#endif
