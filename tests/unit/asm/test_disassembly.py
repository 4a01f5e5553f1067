"""Disassembly of instructions; tests/native/test_debug_files.py compares it with the verifier's."""

from __future__ import annotations

import pytest

from pypwru.asm.disassembly import disassemble, disassemble_like_tcpdump
from pypwru.asm.ebpf import LD_IMM64, Insn, signed_immediate

EXIT = Insn(0x95)


# The notation of print_bpf_insn(), kernel/bpf/disasm.c.
@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (Insn(0xBF, 6, 1), "(bf) r6 = r1"),
        (Insn(0xBF, 6, 1, 8), "(bf) r6 = (s8)r1"),
        (Insn(0xB4, 2, imm=-48), "(b4) w2 = -48"),
        (Insn(0xC7, 1, imm=63), "(c7) r1 s>>= 63"),
        (Insn(0x3F, 1, 2, 1), "(3f) r1 s/= r2"),
        (Insn(0x87, 3), "(87) r3 = -r3"),
        (Insn(0xDC, 0, imm=16), "(dc) r0 = be16 r0"),
        (Insn(0xD4, 0, imm=64), "(d4) r0 = le64 r0"),
        (Insn(0xD7, 0, imm=32), "(d7) r0 = bswap32 r0"),
        (Insn(0x79, 1, 10, -8), "(79) r1 = *(u64 *)(r10 -8)"),
        (Insn(0x91, 1, 10, 4), "(91) r1 = *(s8 *)(r10 +4)"),
        (Insn(0x62, 10, off=-4, imm=7), "(62) *(u32 *)(r10 -4) = 7"),
        (Insn(0x6B, 10, 2, -4), "(6b) *(u16 *)(r10 -4) = r2"),
        (Insn(0xDB, 1, 2, 8), "(db) lock *(u64 *)(r1 +8) += r2"),
        (Insn(0xC3, 1, 2, 8, 0x51), "(c3) r2 = atomic_fetch_and((u32 *)(r1 +8), r2)"),
        (Insn(0xDB, 1, 2, 8, 0xE1), "(db) r2 = atomic64_xchg((u64 *)(r1 +8), r2)"),
        (Insn(0xDB, 1, 2, 8, 0xF1), "(db) r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)"),
        (Insn(0x05, off=-3), "(05) goto pc-3"),
        (Insn(0x06, imm=70000), "(06) gotol pc+70000"),
        (Insn(0x56, 1, off=3, imm=0x86DD), "(56) if w1 != 0x86dd goto pc+3"),
        (Insn(0x15, 1, off=3, imm=-1), "(15) if r1 == 0xffffffff goto pc+3"),
        (Insn(0x6D, 1, 2, 3), "(6d) if r1 s> r2 goto pc+3"),
        (Insn(0x85, src=1, imm=12), "(85) call pc+12"),
        (Insn(0x85, imm=113), "(85) call #113"),
        (EXIT, "(95) exit"),
        (Insn(0xEF, 1, 2), "(ef) r1 ? r2"),
        (Insn(0x28, 1, 2, 3, 4), "(28) unknown dst 1 src 2 off 3 imm 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_notation_of_the_verifier(insn: Insn, text: str) -> None:
    assert disassemble([insn]) == f"   0: {text}"


def test_wide_immediate_takes_two_positions() -> None:
    wide = [Insn(LD_IMM64, 1, imm=signed_immediate(0xFFFFFFF0)), Insn(0, imm=0x7FFF), EXIT]
    assert disassemble(wide) == "   0: (18) r1 = 0x7ffffffffff0\n   2: (95) exit"


def test_maps_are_named() -> None:
    program = [Insn(LD_IMM64, 1, 1, imm=7), Insn(0), Insn(LD_IMM64, 2, 1, imm=8), Insn(0)]
    assert disassemble(program, {7: "events"}).splitlines() == [
        "   0: (18) r1 = map[events]",
        "   2: (18) r2 = map[fd:8]",
    ]


def test_tcpdump_layout_has_absolute_targets() -> None:
    program = [
        Insn(0x56, 1, off=2, imm=0x86DD),
        Insn(LD_IMM64, 0, imm=1),
        Insn(0),
        Insn(0x05, off=1),
        EXIT,
    ]
    assert disassemble_like_tcpdump(program).splitlines() == [
        "(000) if w1 != 0x86dd                 jt 3\tjf 1",
        "(001) r0 = 0x1",
        "(003) goto 5",
        "(004) exit",
    ]
