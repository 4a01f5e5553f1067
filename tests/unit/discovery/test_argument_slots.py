"""Arguments of handlers, at their offsets in the context."""

from __future__ import annotations

import platform
import re

import pytest

from pypwru.asm.ebpf import ALU64, EXIT_PROGRAM, LDX, MOV, Insn
from pypwru.bpf_sources import BPF_DIR
from pypwru.discovery.argument_slots import (
    ArgumentSlots,
    patch_arguments,
    pt_regs_offset,
    tracing_ctx_offset,
)

LOAD = LDX | 0x78
# struct pt_regs of x86-64, in 8-byte words: rdi, rsi, rdx, rcx, r8.
X86_WORDS = (14, 13, 12, 11, 9)


def offset_in_c(name: str) -> int:
    found = re.search(rf"#define {name} (\w+)", (BPF_DIR / "context.h").read_text())
    assert found
    return int(found[1], 0)


SKB, REASON = offset_in_c("SLOT_SKB"), offset_in_c("SLOT_REASON")
PROGRAM = [Insn(LOAD, 6, 1, off=SKB), Insn(LOAD, 7, 1, off=REASON), Insn(LOAD, 2, 6, off=16)]


def test_slots_become_context_offsets() -> None:
    patched = patch_arguments(
        [*PROGRAM, Insn(EXIT_PROGRAM)], ArgumentSlots(2, 3), tracing_ctx_offset
    )
    assert [insn.off for insn in patched[:3]] == [8, 16, 16]
    assert patched[2:] == [PROGRAM[2], Insn(EXIT_PROGRAM)]


def test_missing_argument_is_zero() -> None:
    patched = patch_arguments(PROGRAM, ArgumentSlots(1), tracing_ctx_offset)
    assert patched[0].off == 0
    assert patched[1] == Insn(ALU64 | MOV, 7)


def test_registers_of_this_machine() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("missing: the words of this machine's pt_regs, in this test")
    assert [pt_regs_offset(number) // 8 for number in range(1, 6)] == list(X86_WORDS)
    patched = patch_arguments(PROGRAM, ArgumentSlots(5, 1), pt_regs_offset)
    assert [insn.off for insn in patched] == [72, 112, 16]


def test_slots_are_beyond_any_context() -> None:
    assert min(SKB, REASON) > 8 * 512, "larger than any struct pt_regs"
    assert SKB != REASON and max(SKB, REASON) < 1 << 15
