"""Load-time constants, and messages of the verifier; tests/native loads into the kernel."""

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
EXIT = Insn(EXIT_PROGRAM)


def placeholder(number: int) -> list[Insn]:
    return [Insn(LD_IMM64, dst=1, imm=number), Insn(0, imm=signed_immediate(load_time.PLACEHOLDER))]


@pytest.mark.parametrize("name", maps.MAPS)
def test_map_becomes_its_descriptor(name: str) -> None:
    program = [Insn(ALU64 | MOV, R0), *placeholder(maps.MAPS[name].number), EXIT]
    relocated = relocate(program, DESCRIPTORS, VALUES)
    assert relocated[1] == Insn(LD_IMM64, dst=1, src=1, imm=DESCRIPTORS[name])
    assert relocated[2] == Insn(0, imm=0)
    assert (relocated[0], relocated[3]) == (program[0], EXIT)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(29, 29, 0), (4026531833, 4026531833 - (1 << 32), 0), (0xFFFFFFFF81000010, -0x7EFFFFF0, -1)],
)
@pytest.mark.parametrize("name", load_time.CONSTANTS)
def test_value_stays_a_constant(name: str, value: int, low: int, high: int) -> None:
    relocated = relocate(
        [*placeholder(load_time.CONSTANTS[name]), EXIT], DESCRIPTORS, {name: value}
    )
    assert relocated == [Insn(LD_IMM64, dst=1, imm=low), Insn(0, imm=high), EXIT]


def test_other_constants_are_unchanged() -> None:
    other = [Insn(LD_IMM64, dst=1, imm=1), Insn(0, imm=0x1234), EXIT]
    assert relocate(other, DESCRIPTORS, VALUES) == other


def test_relocate_does_not_modify_input() -> None:
    program = [*placeholder(1), EXIT]
    relocate(program, DESCRIPTORS, VALUES)
    assert program == [*placeholder(1), EXIT]


def test_macros_are_placeholders() -> None:
    """PLACEHOLDER << 32 | number: the two halves of an ld_imm64, low first."""
    for name, shape in maps.MAPS.items():
        text = maps.defines()[f"MAP_{name}"].removeprefix("((void *)").removesuffix("ULL)")
        assert divmod(int(text, 16), 1 << 32) == (load_time.PLACEHOLDER, shape.number)
    for name, text in load_time.defines().items():
        placeholder_value = int(text.removesuffix("ULL"), 16)
        assert divmod(placeholder_value, 1 << 32) == (
            load_time.PLACEHOLDER,
            load_time.CONSTANTS[name],
        )
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
def test_line_of_verifier_log(log: str, line: str) -> None:
    assert _explain_verifier_error(log) == line


def test_interrupted_load_is_not_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_eagain(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(bpf, "program_load", raise_eagain)
    kind = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)
    with ExitStack() as stack, pytest.raises(KernelError) as caught:
        Loader({"trace_skb": pack([EXIT])}, {}, {}, {}, stack).load(
            "trace_skb", ArgumentSlots(1), kind
        )
    assert str(caught.value) == (
        "Signals interrupted the kernel each time it checked trace_skb; start pypwru again"
    )


def test_emfile_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_emfile(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(bpf, "program_load", raise_emfile)
    kind = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)
    with ExitStack() as stack, pytest.raises(KernelError, match=r"open files: ulimit -n") as caught:
        Loader({"trace_skb": pack([EXIT])}, {}, {}, {}, stack).load(
            "trace_skb", ArgumentSlots(1), kind
        )
    assert "CAP_BPF" not in str(caught.value)


def test_debug_files_of_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> int:
        if loads.pop():
            return os.open(os.devnull, os.O_RDONLY)
        raise VerifierError(errno.EACCES, LOG)

    def debug_texts() -> dict[str, str]:
        (folder,) = tmp_path.iterdir()
        return {path.name: path.read_text() for path in folder.iterdir()}

    loads = [False, True, True]
    monkeypatch.setattr(bpf, "program_load", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kind = (ProgramType.RAW_TRACEPOINT, AttachType.NONE)
    bytecode = {"trace_skb": pack([*placeholder(load_time.CONSTANTS["SELF"]), EXIT])}
    with ExitStack() as stack:
        loader = Loader(bytecode, {}, {}, {}, stack, DebugFiles(Log(None)))
        for self_id in (1, 2):
            loader.load("trace_skb", ArgumentSlots(1), kind, self_id)
            assert debug_texts() == {"trace_skb.ebpf": "   0: (18) r1 = 0x1\n   2: (95) exit\n"}
        with pytest.raises(KernelError):
            loader.load("trace_skb", ArgumentSlots(1), kind, 3)
    assert debug_texts() == {
        "trace_skb.ebpf": "   0: (18) r1 = 0x3\n   2: (95) exit\n",
        "trace_skb.verifier.log": LOG,
    }
