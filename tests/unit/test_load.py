"""Marked constants, and the verifier's words; the kernel judges the rest in tests/native."""

from __future__ import annotations

import pytest

from pypwru.filter.ebpf import ALU64, EXIT_PROGRAM, LD_IMM64, MOV, R0, Insn, signed_immediate
from pypwru.program import maps
from pypwru.program.load import _meaning, relocate

DESCRIPTORS = {"events": 11, "counters": 12, "reader": 13}
END = Insn(EXIT_PROGRAM)


def marked(number: int) -> list[Insn]:
    return [Insn(LD_IMM64, dst=1, imm=number), Insn(0, imm=signed_immediate(maps.MARK))]


@pytest.mark.parametrize("name", maps.MAPS)
def test_a_map_becomes_its_descriptor(name: str) -> None:
    program = [Insn(ALU64 | MOV, R0), *marked(maps.MAPS[name].number), END]
    done = relocate(program, DESCRIPTORS, 5)
    assert done[1] == Insn(LD_IMM64, dst=1, src=1, imm=DESCRIPTORS[name])
    assert done[2] == Insn(0, imm=0)
    assert (done[0], done[3]) == (program[0], END)


def test_the_tracepoints_number_stays_a_constant() -> None:
    done = relocate([*marked(maps.TRACEPOINT_NUMBER), END], DESCRIPTORS, 29)
    assert done == [Insn(LD_IMM64, dst=1, imm=29), Insn(0), END]


def test_other_constants_are_left_alone() -> None:
    other = [Insn(LD_IMM64, dst=1, imm=1), Insn(0, imm=0x1234), END]
    assert relocate(other, DESCRIPTORS, 1) == other


def test_the_program_itself_is_not_changed() -> None:
    program = [*marked(1), END]
    relocate(program, DESCRIPTORS, 1)
    assert program == [*marked(1), END]


def test_the_c_names_what_relocate_finds() -> None:
    """MARK << 32 | number: the two halves of an ld_imm64, low first."""
    named = maps.defines()
    for name, shape in maps.MAPS.items():
        text = named[f"MAP_{name}"].removeprefix("((void *)").removesuffix("ULL)")
        assert divmod(int(text, 16), 1 << 32) == (maps.MARK, shape.number)
    place = int(named["TRACEPOINT"].removesuffix("ULL"), 16)
    assert divmod(place, 1 << 32) == (maps.MARK, maps.TRACEPOINT_NUMBER)
    numbers = {shape.number for shape in maps.MAPS.values()} | {maps.TRACEPOINT_NUMBER}
    assert len(numbers) == len(maps.MAPS) + 1


LOG = """func#0 @0
0: R1=ctx() R10=fp0
0: (79) r2 = *(u64 *)(r1 +512)
invalid bpf_context access off=512 size=8
verification time 35 usec
stack depth 0
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (LOG, "invalid bpf_context access off=512 size=8"),
        ("0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n", "R0 !read_ok"),
        ("processed 0 insns\n", "no reason given"),
        ("", "no reason given"),
    ],
)
def test_the_meaningful_line(log: str, line: str) -> None:
    assert _meaning(log) == line
