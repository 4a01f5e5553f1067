"""Words of the kernel's memory, read by a program of a few instructions that is run by hand.

``BPF_PROG_TEST_RUN`` of a raw tracepoint program (Linux 5.10, commit 1b4d60ec162f) runs it in the
calling task, with arguments of the caller's; what it returns is the caller's, too.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypwru.filter.ebpf import (
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
from pypwru.kernel import bpf
from pypwru.kernel.bpf import ProgramType
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Iterator

_GET_CURRENT_TASK = 35  # BPF_FUNC_get_current_task
_WORD = MEMORY_MODE | MEMORY_SIZE[8]
# Arguments: an address, or 0 for that of the current task; by how many bits the answer is shifted,
# since only its lower half is returned.
_CODE = pack(
    [
        Insn(ALU64 | MOV | REGISTER, R6, R1),
        Insn(ST | _WORD, R10, off=-8),
        Insn(LDX | _WORD, R3, R6, 0),
        Insn(ALU64 | MOV | REGISTER, R1, R10),
        Insn(ALU64 | ADD, R1, imm=-8),
        Insn(ALU64 | MOV, R2, imm=8),
        Insn(CALL_HELPER, imm=PROBE_READ_KERNEL),
        Insn(LDX | _WORD, R0, R10, -8),
        Insn(LDX | _WORD, R1, R6, 8),
        Insn(ALU64 | RSH | REGISTER, R0, R1),
        Insn(EXIT_PROGRAM),
    ]
)
_TASK = pack(
    [
        Insn(ALU64 | MOV | REGISTER, R6, R1),
        Insn(CALL_HELPER, imm=_GET_CURRENT_TASK),
        Insn(LDX | _WORD, R1, R6, 8),
        Insn(ALU64 | RSH | REGISTER, R0, R1),
        Insn(EXIT_PROGRAM),
    ]
)


class Peek:
    """Reads the kernel's memory.

    Args:
        word, task: descriptors of the two programs.
    """

    def __init__(self, word: int, task: int) -> None:
        self._word = word
        self._task = task

    def task(self) -> int:
        """The address of the ``struct task_struct`` of this thread."""
        return self._run(self._task, 0)

    def u64(self, address: int) -> int:
        """The word at ``address``; 0 where nothing can be read."""
        return self._run(self._word, address)

    def u32(self, address: int) -> int:
        """The lower half of ``u64``, at half the cost."""
        return bpf.raw_test_run(self._word, struct.pack("=QQ", address, 0))

    def _run(self, program: int, address: int) -> int:
        low, high = (
            bpf.raw_test_run(program, struct.pack("=QQ", address, shift)) for shift in (0, 32)
        )
        return high << 32 | low


@contextmanager
def peeking() -> Iterator[Peek]:
    """A ``Peek`` until the way out.

    Raises:
        OSError: the kernel doesn't load or run such programs.
    """

    def loaded(code: bytes) -> int:
        return bpf.program_load(ProgramType.RAW_TRACEPOINT, "peek", code)

    with owned(loaded(_CODE)) as word, owned(loaded(_TASK)) as task:
        yield Peek(word, task)
