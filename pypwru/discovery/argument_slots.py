"""Patching of argument loads: offsets in the context are filled in when a handler is loaded.

The C reads arguments at placeholder offsets that no context has (bpf/context.h). The real offsets
are those of bpf/registers.h for struct pt_regs, or those of the argument array of tracing programs.
The headers are parsed here, so that no number is defined twice.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.asm.ebpf import ALU64, LDX, MOV, Insn
from pypwru.bpf_sources import BPF_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DEFINE = re.compile(r"^#define (REG_\w+|SLOT_\w+) (\w+)", re.MULTILINE)


class ArgumentSlots(NamedTuple):
    """Positions of the arguments that a handler reads, 1 for the first; 0 if there is none.

    Args:
        packet: ``struct sk_buff *`` or ``struct xdp_buff *``.
        reason: ``enum skb_drop_reason``.
    """

    packet: int = 0
    reason: int = 0

    def argument_indexes(self) -> dict[str, int]:
        """Return the load-time constants for bpf_get_func_arg(): indexes from 0; -1 if none."""
        return {"SKB_ARG_INDEX": self.packet - 1, "REASON_ARG_INDEX": self.reason - 1}


# Field of ArgumentSlots -> macro of bpf/context.h.
_SLOT_MACROS = {"packet": "SLOT_SKB", "reason": "SLOT_REASON"}


def _parse_defines(text: str) -> dict[str, int]:
    return {name: int(value, 0) for name, value in _DEFINE.findall(text)}


@cache
def _placeholder_offsets() -> Mapping[str, int]:
    """Return field of ArgumentSlots -> placeholder offset in the C."""
    defined = _parse_defines((BPF_DIR / "context.h").read_text())
    return {field: defined[macro] for field, macro in _SLOT_MACROS.items()}


@cache
def _registers(machine: str) -> Mapping[str, int]:
    text = (BPF_DIR / "registers.h").read_text()
    own = re.search(rf"defined\(TARGET_{machine.upper()}\)(.*?)^#el", text, re.DOTALL | re.M)
    return _parse_defines(own[1]) if own else {}


def pt_regs_offset(number: int) -> int:
    """Return the byte offset of argument ``number`` (1 the first) in struct pt_regs."""
    return _registers(os.uname().machine)[f"REG_ARG{number}"]


def tracing_ctx_offset(number: int) -> int:
    """Return the byte offset of argument ``number`` (1 the first) in a u64 array of arguments.

    That is the context of tracing programs and raw tracepoints.
    """
    return 8 * (number - 1)


def patch_arguments(
    program: Sequence[Insn], slots: ArgumentSlots, offset_of: Callable[[int], int]
) -> list[Insn]:
    """Replace placeholder offsets in the loads of arguments; a missing argument becomes 0.

    Args:
        program: instructions.
        slots: positions of the arguments.
        offset_of: ``pt_regs_offset`` or ``tracing_ctx_offset``, by the program type.

    Returns:
        New instructions.
    """
    positions = {
        _placeholder_offsets()[name]: position for name, position in slots._asdict().items()
    }

    def patch(insn: Insn) -> Insn:
        if insn.code & 7 != LDX or insn.off not in positions:
            return insn
        position = positions[insn.off]
        if not position:
            return Insn(ALU64 | MOV, insn.dst)
        return insn._replace(off=offset_of(position))

    return [patch(insn) for insn in program]
