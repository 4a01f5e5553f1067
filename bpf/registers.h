/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Offsets of a function's arguments in struct pt_regs at its entry: in the order of
 * user_regs_struct on x86-64, of user_pt_regs on arm64 (both are ABI). They are constants, since
 * BPF reads its context only at constant offsets. discovery/argument_slots.py parses this file for
 * the arguments.
 */
#ifndef __PYPWRU_REGISTERS_H
#define __PYPWRU_REGISTERS_H

#if defined(TARGET_X86_64)
#define REG_ARG1 112  /* rdi */
#define REG_ARG2 104  /* rsi */
#define REG_ARG3 96   /* rdx */
#define REG_ARG4 88   /* rcx */
#define REG_ARG5 72   /* r8 */
#define REG_RETVAL 80 /* rax */
#define REG_IP 128
#define REG_SP 152
#define RETURN_ADDRESS(ctx) read_u64(CONTEXT(ctx, REG_SP)) /* the call pushed it */
#define RETURN_ADDRESS_SIZE 8 /* bytes of the stack, which the return pops */
#define BREAKPOINT_SIZE 1     /* regs->ip is behind the int3 that ftrace stands in for */
#elif defined(TARGET_AARCH64)
#define REG_ARG1 0 /* x0 */
#define REG_ARG2 8
#define REG_ARG3 16
#define REG_ARG4 24
#define REG_ARG5 32
#define REG_RETVAL 0
#define REG_IP 256 /* pc */
#define REG_SP 248
#define RETURN_ADDRESS(ctx) CONTEXT(ctx, 240) /* x30 */
#define RETURN_ADDRESS_SIZE 0
#define BREAKPOINT_SIZE 0
#else
#error "registers.h knows x86_64 and aarch64"
#endif

#define CONTEXT(ctx, offset) (*(u64 *)((char *)(ctx) + (offset)))

#endif
