"""Patching of argument loads: offsets in the context are filled in when a handler is loaded.

The C reads arguments at placeholder offsets that no context has (bpf/arguments.h). The real offsets
are those of bpf/registers.h for struct pt_regs, or those of the argument array of tracing programs.
The headers are parsed here, so that no number is defined twice.
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
    """Positions of the arguments that a handler reads, 1 for the first; 0 if there is none.

    Args:
        packet: ``struct sk_buff *`` or ``struct xdp_buff *``.
        reason: ``enum skb_drop_reason``.
    """

    packet: int = 0
    reason: int = 0

    def asked_for(self) -> dict[str, int]:
        """Return the load-time constants for bpf_get_func_arg(): indexes from 0; -1 if none."""
        return {"PACKET_ARGUMENT": self.packet - 1, "REASON_ARGUMENT": self.reason - 1}


def _numbers(text: str) -> dict[str, int]:
    return {name: int(value, 0) for name, value in _DEFINED.findall(text)}


@cache
def _marks() -> Mapping[str, int]:
    """Return field of Places -> placeholder offset in the C."""
    defined = _numbers((FOLDER / "arguments.h").read_text())
    return {name: defined[f"PLACE_{name.upper()}"] for name in Places._fields}


@cache
def _registers(machine: str) -> Mapping[str, int]:
    text = (FOLDER / "registers.h").read_text()
    own = re.search(rf"defined\(TARGET_{machine.upper()}\)(.*?)^#el", text, re.DOTALL | re.M)
    return _numbers(own[1]) if own else {}


def in_registers(number: int) -> int:
    """Return the byte offset of argument ``number`` (1 the first) in struct pt_regs."""
    return _registers(os.uname().machine)[f"REG_ARG{number}"]


def in_array(number: int) -> int:
    """Return the byte offset of argument ``number`` (1 the first) in a u64 array of arguments.

    That is the context of tracing programs and raw tracepoints.
    """
    return 8 * (number - 1)


def fill(program: Sequence[Insn], places: Places, offset: Callable[[int], int]) -> list[Insn]:
    """Replace placeholder offsets in the loads of arguments; a missing argument becomes 0.

    Args:
        program: instructions.
        places: positions of the arguments.
        offset: ``in_registers`` or ``in_array``, by the program type.

    Returns:
        New instructions.
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
