"""Disassembly of eBPF, in the verifier's notation and in the layout of ``tcpdump -d``.

Source: print_bpf_insn() of kernel/bpf/disasm.c. A helper has its number only, ``call #113``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm.ebpf import (
    ADD,
    ALU32,
    ALU64,
    AND,
    ARSH,
    BYTE_SWAP,
    CALL,
    DIV,
    EXIT,
    IMMEDIATE,
    JA,
    JEQ,
    JGE,
    JGT,
    JLE,
    JLT,
    JMP,
    JMP32,
    JNE,
    JSET,
    JSGE,
    JSGT,
    JSLE,
    JSLT,
    LD_IMM64,
    LDX,
    LSH,
    MEMORY_MODE,
    MOD,
    MOV,
    MUL,
    NEG,
    OR,
    REGISTER,
    RSH,
    SIZE_OF_MEMORY,
    ST,
    STX,
    SUB,
    XOR,
    Insn,
    is_jump,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD
_ALU_OPERATORS = {
    ADD: "+=", SUB: "-=", MUL: "*=", DIV: "/=", OR: "|=", AND: "&=", LSH: "<<=", RSH: ">>=",
    MOD: "%=", XOR: "^=", MOV: "=", ARSH: "s>>=",
}  # fmt: skip
_JUMP_OPERATORS = {
    JEQ: "==", JGT: ">", JGE: ">=", JSET: "&", JNE: "!=", JLT: "<", JLE: "<=",
    JSGT: "s>", JSGE: "s>=", JSLT: "s<", JSLE: "s<=",
}  # fmt: skip
_SIGNED_MODE, _ATOMIC_MODE = 0x80, 0xC0  # BPF_MEMSX, BPF_ATOMIC
_ATOMIC_OPERATIONS = {ADD: "add", OR: "or", AND: "and", XOR: "xor"}
_FETCH, _EXCHANGE, _COMPARE_EXCHANGE = 0x01, 0xE1, 0xF1  # BPF_FETCH, BPF_XCHG, BPF_CMPXCHG
_CONDITION_WIDTH = 31  # columns before "jt", as tcpdump pads them


def disassemble(program: Sequence[Insn], maps: Mapping[int, str] | None = None) -> str:
    """Return the program in the verifier's notation, one line for each instruction.

    The positions are those of a verifier log: an ld_imm64 takes two, and has one line.

    Args:
        program: a whole program, with its subprograms.
        maps: descriptor of a map that it refers to -> name.
    """
    return "\n".join(
        f"{position:4}: ({insn.code:02x}) {text}"
        for position, insn, text in _texts(program, maps or {})
    )


def disassemble_like_tcpdump(program: Sequence[Insn]) -> str:
    """Return the program in the layout of ``tcpdump -d``: jumps have the position of their target.

    Args:
        program: a filter; it has no long jumps.
    """
    return "\n".join(
        f"({position:03}) {_with_targets(position, insn, text)}"
        for position, insn, text in _texts(program, {})
    )


def _with_targets(position: int, insn: Insn, text: str) -> str:
    if not is_jump(insn):
        return text
    target = position + 1 + insn.off
    condition = text.partition("goto")[0].rstrip()
    if not condition:
        return f"goto {target}"
    return f"{condition:<{_CONDITION_WIDTH}} jt {target}\tjf {position + 1}"


def _texts(program: Sequence[Insn], maps: Mapping[int, str]) -> Iterator[tuple[int, Insn, str]]:
    """Yield position, first slot and text of each instruction."""
    is_second_slot = False
    for position, insn in enumerate(program):
        if is_second_slot:
            is_second_slot = False
        elif insn.code == LD_IMM64:
            is_second_slot = True
            yield position, insn, _load_immediate(insn, program[position + 1], maps)
        else:
            yield position, insn, _disassemble_insn(insn)


def _load_immediate(insn: Insn, second: Insn, maps: Mapping[int, str]) -> str:
    if insn.src == _PSEUDO_MAP_FD:
        return f"r{insn.dst} = map[{maps.get(insn.imm, f'fd:{insn.imm}')}]"
    value = (second.imm & 0xFFFFFFFF) << 32 | insn.imm & 0xFFFFFFFF
    return f"r{insn.dst} = {value:#x}"


def _disassemble_insn(insn: Insn) -> str:
    kind = insn.code & 7
    if kind in (LDX, ST, STX):
        return _memory(insn)
    if kind in (JMP, JMP32):
        return _jump(insn, "w" if kind == JMP32 else "r")
    if kind in (ALU32, ALU64):
        return _alu(insn, "w" if kind == ALU32 else "r")
    return _unknown(insn)


def _unknown(insn: Insn) -> str:
    return f"unknown dst {insn.dst} src {insn.src} off {insn.off} imm {insn.imm}"


def _alu(insn: Insn, letter: str) -> str:
    operation = insn.code & 0xF0
    if operation == NEG:
        return f"{letter}{insn.dst} = -{letter}{insn.dst}"
    if operation == BYTE_SWAP:
        order = "bswap" if insn.code & 7 == ALU64 else "be" if insn.code & REGISTER else "le"
        return f"r{insn.dst} = {order}{insn.imm} r{insn.dst}"
    sign = "s" if insn.off and operation in (DIV, MOD) else ""
    cast = f"(s{insn.off})" if insn.off and operation == MOV else ""
    operand = f"{cast}{letter}{insn.src}" if insn.code & REGISTER else str(insn.imm)
    return f"{letter}{insn.dst} {sign}{_ALU_OPERATORS.get(operation, '?')} {operand}"


def _memory(insn: Insn) -> str:
    mode, width = insn.code & 0xE0, SIZE_OF_MEMORY[insn.code & 0x18] * 8
    if insn.code & 7 == LDX and mode in (MEMORY_MODE, _SIGNED_MODE):
        sign = "u" if mode == MEMORY_MODE else "s"
        return f"r{insn.dst} = *({sign}{width} *)(r{insn.src} {insn.off:+})"
    if insn.code & 7 == STX and mode == _ATOMIC_MODE:
        return _atomic(insn, f"(u{width} *)(r{insn.dst} {insn.off:+})", "64" * (width == 64))
    if mode != MEMORY_MODE:
        return _unknown(insn)
    value = f"r{insn.src}" if insn.code & 7 == STX else str(insn.imm)
    return f"*(u{width} *)(r{insn.dst} {insn.off:+}) = {value}"


def _atomic(insn: Insn, location: str, suffix: str) -> str:
    if insn.imm == _EXCHANGE:
        return f"r{insn.src} = atomic{suffix}_xchg({location}, r{insn.src})"
    if insn.imm == _COMPARE_EXCHANGE:
        return f"r0 = atomic{suffix}_cmpxchg({location}, r0, r{insn.src})"
    operation = insn.imm & ~_FETCH
    if operation not in _ATOMIC_OPERATIONS:
        return _unknown(insn)
    if insn.imm & _FETCH:
        name = _ATOMIC_OPERATIONS[operation]
        return f"r{insn.src} = atomic{suffix}_fetch_{name}({location}, r{insn.src})"
    return f"lock *{location} {_ALU_OPERATORS[operation]} r{insn.src}"


def _jump(insn: Insn, letter: str) -> str:
    operation = insn.code & 0xF0
    if operation == EXIT:
        return "exit"
    if operation == CALL:
        return f"call pc{insn.imm:+}" if insn.src else f"call #{insn.imm}"
    if operation == JA:
        is_long = letter == "w"
        return f"gotol pc{insn.imm:+}" if is_long else f"goto pc{insn.off:+}"
    if operation not in _JUMP_OPERATORS:
        return _unknown(insn)
    is_constant = insn.code & REGISTER == IMMEDIATE
    operand = f"{insn.imm & 0xFFFFFFFF:#x}" if is_constant else f"{letter}{insn.src}"
    return f"if {letter}{insn.dst} {_JUMP_OPERATORS[operation]} {operand} goto pc{insn.off:+}"
