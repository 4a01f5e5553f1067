"""Marked constants, and the verifier's words; the kernel judges the rest in tests/native."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.asm.ebpf import ALU64, EXIT_PROGRAM, LD_IMM64, MOV, R0, Insn, pack, signed_immediate
from pypwru.discovery.argument_slots import ArgumentSlots
from pypwru.errors import KernelError
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType, VerifierError
from pypwru.log import Log
from pypwru.program import load_time, maps
from pypwru.program.debug_files import DebugFiles
from pypwru.program.load import Loader, _explain_verifier_error, relocate

DESCRIPTORS = {name: 11 + shape.number for name, shape in maps.MAPS.items()}
VALUES = {"SELF": 5}
END = Insn(EXIT_PROGRAM)


def marked(number: int) -> list[Insn]:
    return [Insn(LD_IMM64, dst=1, imm=number), Insn(0, imm=signed_immediate(load_time.PLACEHOLDER))]


@pytest.mark.parametrize("name", maps.MAPS)
def test_a_map_becomes_its_descriptor(name: str) -> None:
    program = [Insn(ALU64 | MOV, R0), *marked(maps.MAPS[name].number), END]
    done = relocate(program, DESCRIPTORS, VALUES)
    assert done[1] == Insn(LD_IMM64, dst=1, src=1, imm=DESCRIPTORS[name])
    assert done[2] == Insn(0, imm=0)
    assert (done[0], done[3]) == (program[0], END)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(29, 29, 0), (4026531833, 4026531833 - (1 << 32), 0), (0xFFFFFFFF81000010, -0x7EFFFFF0, -1)],
)
@pytest.mark.parametrize("name", load_time.CONSTANTS)
def test_a_number_stays_a_constant(name: str, value: int, low: int, high: int) -> None:
    done = relocate([*marked(load_time.CONSTANTS[name]), END], DESCRIPTORS, {name: value})
    assert done == [Insn(LD_IMM64, dst=1, imm=low), Insn(0, imm=high), END]


def test_other_constants_are_left_alone() -> None:
    other = [Insn(LD_IMM64, dst=1, imm=1), Insn(0, imm=0x1234), END]
    assert relocate(other, DESCRIPTORS, VALUES) == other


def test_the_program_itself_is_not_changed() -> None:
    program = [*marked(1), END]
    relocate(program, DESCRIPTORS, VALUES)
    assert program == [*marked(1), END]


def test_the_c_names_what_relocate_finds() -> None:
    """MARK << 32 | number: the two halves of an ld_imm64, low first."""
    for name, shape in maps.MAPS.items():
        text = maps.defines()[f"MAP_{name}"].removeprefix("((void *)").removesuffix("ULL)")
        assert divmod(int(text, 16), 1 << 32) == (load_time.PLACEHOLDER, shape.number)
    for name, text in load_time.defines().items():
        place = int(text.removesuffix("ULL"), 16)
        assert divmod(place, 1 << 32) == (load_time.PLACEHOLDER, load_time.CONSTANTS[name])
    numbers = {shape.number for shape in maps.MAPS.values()} | set(load_time.CONSTANTS.values())
    assert len(numbers) == len(maps.MAPS) + len(load_time.CONSTANTS)


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
    assert _explain_verifier_error(log) == line


def test_an_interrupted_load_is_not_reported_as_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(bpf, "program_load", interrupted)
    kind = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)
    with ExitStack() as stack, pytest.raises(KernelError) as caught:
        Loader({"trace_skb": pack([END])}, {}, {}, {}, stack).load(
            "trace_skb", ArgumentSlots(1), kind
        )
    assert str(caught.value) == (
        "Signals interrupted the kernel each time it checked trace_skb; start pypwru again"
    )


def test_too_many_open_files_are_no_missing_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(bpf, "program_load", full)
    kind = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)
    with ExitStack() as stack, pytest.raises(KernelError, match=r"open files: ulimit -n") as caught:
        Loader({"trace_skb": pack([END])}, {}, {}, {}, stack).load(
            "trace_skb", ArgumentSlots(1), kind
        )
    assert "CAP_BPF" not in str(caught.value)


def test_debug_files_have_each_handler_once_and_the_refused_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> int:
        if loads.pop():
            return os.open(os.devnull, os.O_RDONLY)
        raise VerifierError(errno.EACCES, LOG)

    def texts() -> dict[str, str]:
        (folder,) = tmp_path.iterdir()
        return {path.name: path.read_text() for path in folder.iterdir()}

    loads = [False, True, True]
    monkeypatch.setattr(bpf, "program_load", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kind = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)
    bytecode = {"trace_skb": pack([*marked(load_time.CONSTANTS["SELF"]), END])}
    with ExitStack() as stack:
        loader = Loader(bytecode, {}, {}, {}, stack, DebugFiles(Log(None)))
        for self_id in (1, 2):
            loader.load("trace_skb", ArgumentSlots(1), kind, self_id)
            assert texts() == {"trace_skb.ebpf": "   0: (18) r1 = 0x1\n   2: (95) exit\n"}
        with pytest.raises(KernelError):
            loader.load("trace_skb", ArgumentSlots(1), kind, 3)
    assert texts() == {
        "trace_skb.ebpf": "   0: (18) r1 = 0x3\n   2: (95) exit\n",
        "trace_skb.verifier.log": LOG,
    }
