"""Where a handler finds its arguments, put into its instructions when it is loaded.

bpf/arguments.h says how the C reads them: at offsets of the context that no context has. The true
offsets are those of bpf/registers.h, or of the array that tracing programs get; neither is written
down a second time here.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.filter.ebpf import ALU64, LDX, MOV, Insn
from pypwru.program.source import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DEFINED = re.compile(r"^#define (REG_\w+|PLACE_\w+) (\w+)", re.MULTILINE)


class Places(NamedTuple):
    """Numbers of arguments, 1 the first; 0 for one that there is not."""

    packet: int = 0
    reason: int = 0

    def asked_for(self) -> dict[str, int]:
        """Constants of a program that asks for its arguments by number; -1 is none."""
        return {"PACKET_ARGUMENT": self.packet - 1, "REASON_ARGUMENT": self.reason - 1}


def _numbers(text: str) -> dict[str, int]:
    return {name: int(value, 0) for name, value in _DEFINED.findall(text)}


@cache
def _marks() -> Mapping[str, int]:
    """Field of Places -> the offset by which the C reads it."""
    defined = _numbers((FOLDER / "arguments.h").read_text())
    return {name: defined[f"PLACE_{name.upper()}"] for name in Places._fields}


@cache
def _registers(machine: str) -> Mapping[str, int]:
    text = (FOLDER / "registers.h").read_text()
    own = re.search(rf"defined\(TARGET_{machine.upper()}\)(.*?)^#el", text, re.DOTALL | re.M)
    return _numbers(own[1]) if own else {}


def in_registers(number: int) -> int:
    """The offset of an argument in struct pt_regs."""
    return _registers(os.uname().machine)[f"REG_ARG{number}"]


def in_array(number: int) -> int:
    """The offset of an argument in the context of a tracing program or raw tracepoint."""
    return 8 * (number - 1)


def fill(program: Sequence[Insn], places: Places, offset: Callable[[int], int]) -> list[Insn]:
    """``program`` with its arguments where they are.

    Args:
        offset: ``in_registers`` or ``in_array``.
    """
    numbers = {_marks()[name]: number for name, number in places._asdict().items()}

    def filled(insn: Insn) -> Insn:
        if insn.code & 7 != LDX or insn.off not in numbers:
            return insn
        number = numbers[insn.off]
        if not number:
            return Insn(ALU64 | MOV, insn.dst)
        return insn._replace(off=offset(number))

    return [filled(insn) for insn in program]
