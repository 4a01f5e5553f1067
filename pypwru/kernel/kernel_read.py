"""Reads of kernel memory, by a BPF program of a few instructions that is run on demand.

BPF_PROG_TEST_RUN runs a raw tracepoint program in the calling task, with arguments and a result of
the caller's: Linux commit 1b4d60ec162f ("bpf: Enable BPF_PROG_TEST_RUN for raw_tracepoint") (in
v5.10).
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypwru.asm.ebpf import (
    ADD,
    ALU64,
    CALL_HELPER,
    EXIT_PROGRAM,
    LDX,
    MEMORY_MODE,
    MEMORY_SIZE,
    MOV,
    PROBE_READ_KERNEL,
    R0,
    R1,
    R2,
    R3,
    R6,
    R10,
    REGISTER,
    RSH,
    ST,
    Insn,
    pack,
)
from pypwru.fds import closing_fd
from pypwru.kernel import bpf
from pypwru.kernel.bpf import ProgramType

if TYPE_CHECKING:
    from collections.abc import Iterator

_GET_CURRENT_TASK = 35  # BPF_FUNC_get_current_task
_MEM_U64 = MEMORY_MODE | MEMORY_SIZE[8]
# Context: u64 address (unused by _TASK), u64 shift. The result is the u64 at the address, or the
# address of the current task, shifted right: BPF_PROG_TEST_RUN returns only its lower 32 bits.
_READ_U64 = pack(
    [
        Insn(ALU64 | MOV | REGISTER, R6, R1),
        Insn(ST | _MEM_U64, R10, off=-8),
        Insn(LDX | _MEM_U64, R3, R6, 0),
        Insn(ALU64 | MOV | REGISTER, R1, R10),
        Insn(ALU64 | ADD, R1, imm=-8),
        Insn(ALU64 | MOV, R2, imm=8),
        Insn(CALL_HELPER, imm=PROBE_READ_KERNEL),
        Insn(LDX | _MEM_U64, R0, R10, -8),
        Insn(LDX | _MEM_U64, R1, R6, 8),
        Insn(ALU64 | RSH | REGISTER, R0, R1),
        Insn(EXIT_PROGRAM),
    ]
)
_READ_TASK = pack(
    [
        Insn(ALU64 | MOV | REGISTER, R6, R1),
        Insn(CALL_HELPER, imm=_GET_CURRENT_TASK),
        Insn(LDX | _MEM_U64, R1, R6, 8),
        Insn(ALU64 | RSH | REGISTER, R0, R1),
        Insn(EXIT_PROGRAM),
    ]
)


class KernelReader:
    """Reader of kernel memory. Every method raises OSError if the kernel can't run the program.

    Args:
        read_program, task_program: descriptors of the two programs, owned by the caller.
    """

    def __init__(self, read_program: int, task_program: int) -> None:
        self._read_program = read_program
        self._task_program = task_program

    def current_task(self) -> int:
        """Return the address of the ``struct task_struct`` of this thread."""
        return self._run(self._task_program, 0)

    def u64(self, address: int) -> int:
        """Return the u64 at ``address``, in host byte order; 0 if it can't be read."""
        return self._run(self._read_program, address)

    def u32(self, address: int) -> int:
        """Return the lower 32 bits of ``u64``, at half the cost."""
        return bpf.raw_test_run(self._read_program, struct.pack("=QQ", address, 0))

    def _run(self, program: int, address: int) -> int:
        low, high = (
            bpf.raw_test_run(program, struct.pack("=QQ", address, shift)) for shift in (0, 32)
        )
        return high << 32 | low


@contextmanager
def open_kernel_reader() -> Iterator[KernelReader]:
    """Load the programs of a ``KernelReader``, and close them on exit from the context.

    Raises:
        OSError: the kernel doesn't load such programs.
    """

    def load(code: bytes) -> int:
        return bpf.program_load(ProgramType.RAW_TRACEPOINT, "peek", code)

    with closing_fd(load(_READ_U64)) as read_program, closing_fd(load(_READ_TASK)) as task_program:
        yield KernelReader(read_program, task_program)
