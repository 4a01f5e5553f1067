"""A filter in place of a call: every jump keeps its target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypwru.asm import ebpf
from pypwru.asm.ebpf import Insn
from pypwru.errors import FilterError
from pypwru.filter.compiler import MATCH_ALL, compile_filter
from pypwru.filter.splice import MARKER_L2, MARKER_L3, lowest_stack_offset, splice, splice_all

MARKER = MARKER_L2
CALL = Insn(ebpf.CALL_HELPER, imm=MARKER)
OTHER_CALL = Insn(ebpf.CALL_HELPER, imm=5)
EXIT = Insn(ebpf.EXIT_PROGRAM)
FILTER = compile_filter("tcp port 443")
GOTO = ebpf.JMP | ebpf.JA
LONG_GOTO = ebpf.JMP32 | ebpf.JA
SUBPROGRAM_CALL = (ebpf.CALL_HELPER, 1)
FUNCTION_ADDRESS = (ebpf.LD_IMM64, 4)


@st.composite
def host_programs(draw: st.DrawFn) -> list[list[Insn]]:
    """Units (one or two slots each); all but markers differ by their ``dst``, ``src`` and code, or
    by the unique number in their immediate; relative ones go to any unit."""
    kinds = ["plain", "wide", "marker", "branch", "goto", "long", "call", "address"]
    shape = [*draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=25)), "plain"]
    starts = [0]
    for kind in shape:
        starts.append(starts[-1] + (2 if kind in ("wide", "address") else 1))
    units = []
    for number, kind in enumerate(shape):
        distance = starts[draw(st.integers(0, len(shape) - 1))] - starts[number] - 1
        unique = 1000 + number
        # The second slot of an ld_imm64 may have any bytes: here, those of a call of the marker.
        units.append(
            {
                "plain": [Insn(ebpf.ALU64 | ebpf.MOV, 1, imm=unique)],
                "wide": [Insn(ebpf.LD_IMM64, 2, imm=unique), CALL],
                "marker": [CALL],
                "branch": [Insn(ebpf.JMP32 | ebpf.JEQ, 1, off=distance, imm=unique)],
                "goto": [Insn(GOTO, off=distance, imm=0)],
                "long": [Insn(LONG_GOTO, imm=distance)],
                "call": [Insn(SUBPROGRAM_CALL[0], src=SUBPROGRAM_CALL[1], imm=distance)],
                "address": [
                    Insn(FUNCTION_ADDRESS[0], 3, FUNCTION_ADDRESS[1], imm=distance),
                    Insn(0),
                ],
            }[kind]
        )
    return units


@settings(max_examples=300)
@given(host_programs())
def test_jumps_keep_their_targets(units: list[list[Insn]]) -> None:
    before = [insn for unit in units for insn in unit]
    body = FILTER.l2.body(0)
    after = splice(before, MARKER, FILTER.l2, stack_base=0)
    # The expected position of each unit.
    old, new = 0, 0
    moved: dict[int | None, int] = {}
    for unit in units:
        moved[old] = new
        old += len(unit)
        new += len(body) if unit == [CALL] else len(unit)
    assert len(after) == new
    position = 0
    for unit in units:
        found = after[moved[position] :]
        if unit == [CALL]:
            assert found[: len(body)] == body
        else:
            assert found[0]._replace(off=0, imm=0) == unit[0]._replace(off=0, imm=0)
            assert found[1 : len(unit)] == unit[1:]
            assert _target(found[0], moved[position]) == moved.get(_target(unit[0], position))
        position += len(unit)


def _target(insn: Insn, position: int) -> int | None:
    if insn.code in (LONG_GOTO, ebpf.CALL_HELPER) or (insn.code, insn.src) == FUNCTION_ADDRESS:
        return position + 1 + insn.imm
    if insn.code in (GOTO, ebpf.JMP32 | ebpf.JEQ):
        return position + 1 + insn.off
    return None


def test_both_filters_share_the_stack() -> None:
    third = Insn(ebpf.CALL_HELPER, imm=MARKER_L3)
    store = Insn(ebpf.STX | 0x78, 10, 1, off=-40)
    program = [store, CALL, third, OTHER_CALL, EXIT]
    found = splice_all(ebpf.pack(program), {MARKER: FILTER.l2, MARKER_L3: FILTER.l3})
    expected = [*FILTER.l2.body(-40), *FILTER.l3.body(-40), OTHER_CALL, EXIT]
    assert found == [store, *expected]
    assert ebpf.unpack(ebpf.pack(found)) == found


def test_program_without_call_is_unchanged() -> None:
    program = [Insn(ebpf.ALU64 | ebpf.MOV), Insn(ebpf.LD_IMM64, 1, imm=7), CALL, EXIT]
    assert splice(program, MARKER, FILTER.l2) == program


def test_constant_filter_is_one_instruction() -> None:
    assert splice_all([CALL, EXIT], {MARKER_L2: MATCH_ALL.l2}) == [
        Insn(ebpf.ALU32 | ebpf.MOV, imm=1),
        EXIT,
    ]
    never = compile_filter("arp")
    assert never.l3.constant_result is False
    assert never.l3.body(0) == [Insn(ebpf.ALU32 | ebpf.MOV, imm=0)]


def test_too_long_jump_is_refused() -> None:
    calls = [CALL] * 1000
    program = [Insn(ebpf.JMP | ebpf.JEQ, 1, off=len(calls)), *calls, EXIT]
    with pytest.raises(FilterError, match="shorten the filter"):
        splice(program, MARKER, FILTER.l2)


def test_partial_instruction_is_refused() -> None:
    with pytest.raises(FilterError, match="9 bytes"):
        splice(b"123456789", MARKER, FILTER.l2)


MOVE = ebpf.ALU64 | ebpf.MOV | ebpf.REGISTER
ADD = ebpf.ALU64 | ebpf.ADD


@pytest.mark.parametrize(
    ("program", "lowest"),
    [
        ([EXIT], 0),
        ([Insn(ebpf.STX | 0x78, 10, 1, off=-16), Insn(ebpf.LDX | 0x78, 1, 10, off=-8)], -16),
        ([Insn(ebpf.ST | 0x62, 10, off=-20, imm=1)], -20),
        ([Insn(MOVE, 2, 10), Insn(ADD, 2, imm=-64)], -64),
        ([Insn(MOVE, 2, 10), OTHER_CALL, Insn(ADD, 2, imm=-64)], 0),
        ([Insn(MOVE, 6, 10), OTHER_CALL, Insn(ADD, 6, imm=-64)], -64),
        ([Insn(MOVE, 2, 10), Insn(ADD, 2, imm=-24), Insn(MOVE, 3, 2), Insn(ADD, 3, imm=-8)], -32),
        ([Insn(MOVE, 2, 10), Insn(ebpf.LDX | 0x78, 1, 2, off=-48)], -48),
        ([Insn(MOVE, 2, 10), Insn(MOVE, 2, 1), Insn(ADD, 2, imm=-400)], 0),
        ([Insn(ebpf.LD_IMM64, 1), Insn(ebpf.STX | 0x78, 10, 1, off=-256), EXIT], 0),
    ],
)
def test_lowest_stack_offset(program: list[Insn], lowest: int) -> None:
    assert lowest_stack_offset(program) == lowest


def test_computed_stack_address_is_refused() -> None:
    program = [Insn(MOVE, 2, 10), Insn(ADD | ebpf.REGISTER, 2, 1), CALL]
    with pytest.raises(FilterError, match="instruction 1 computes a stack address"):
        splice(program, MARKER, FILTER.l2)


def test_stack_addresses_by_path() -> None:
    """A register is no stack address on a path that bypasses the instruction that makes it one."""
    program = [
        Insn(ebpf.JMP | ebpf.JEQ, 1, off=3),
        Insn(MOVE, 7, 10),
        Insn(ADD, 7, imm=-24),
        Insn(GOTO, off=1),
        Insn(ADD | ebpf.REGISTER, 7, 2),
        Insn(ebpf.STX | 0x78, 7, 1, off=-8),
    ]
    assert lowest_stack_offset(program) == -32
    with pytest.raises(FilterError, match="instruction 4 computes a stack address"):
        lowest_stack_offset([*program[1:3], Insn(GOTO), *program[3:]])
