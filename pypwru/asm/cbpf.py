"""Classic BPF: instructions, their operands, their validation and their disassembly.

The set is exactly what libpcap's interpreter runs (``bpf_filter.c``). The disassembly,
:meth:`ClassicProgram.__str__`, has the format of ``tcpdump -d`` (``bpf_image.c``).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRATCH_WORDS = 16  # BPF_MEMWORDS
MAX_OFFSET = 0x7FFFFFFF
"""The largest constant offset inside a packet. libpcap's interpreter has no packet longer than
INT_MAX either, so a load beyond it is always out of bounds."""

ANCILLARY_BASE = 0xFFFFF000  # SKF_AD_OFF, as the unsigned k of an absolute load
ANCILLARY_END = 64  # SKF_AD_MAX


class InstructionKind(Enum):
    """The kind of an instruction; the code generator has a function for each."""

    LOAD_ABSOLUTE = auto()
    LOAD_INDIRECT = auto()
    LOAD_HEADER_LENGTH = auto()  # BPF_MSH: X = 4 * (byte & 15)
    CHECK_ABSOLUTE = auto()  # the bounds check of a load whose result is not read: see CHECKS
    CHECK_INDIRECT = auto()
    LOAD_IMMEDIATE = auto()
    LOAD_LENGTH = auto()
    LOAD_SCRATCH = auto()
    STORE_SCRATCH = auto()
    ALU = auto()
    MOVE = auto()
    JUMP = auto()
    BRANCH = auto()
    RETURN = auto()


class Opcode(NamedTuple):
    """The description of an opcode.

    Args:
        kind: what it does.
        mnemonic, operand_format: for the disassembly; ``operand_format`` is a format string.
        reads, writes: the registers: "", "A", "X" or "AX".
        size: bytes of the packet that it loads; 0 for other instructions.
    """

    kind: InstructionKind
    mnemonic: str
    operand_format: str
    reads: str
    writes: str
    size: int = 0


class ClassicInstruction(NamedTuple):
    """``struct bpf_insn``: u16 code, u8 jt, u8 jf, u32 k."""

    code: int
    jt: int
    jf: int
    k: int

    @property
    def opcode(self) -> Opcode:
        """The description of the opcode.

        Raises:
            KeyError: an opcode of neither libpcap nor the passes (CHECKS).
        """
        return _ALL_OPCODES[self.code]

    @property
    def kind(self) -> InstructionKind:
        """What the instruction does."""
        return _ALL_OPCODES[self.code].kind

    @property
    def operation(self) -> int:
        """The BPF_OP bits of an ALU or jump instruction, the same as in eBPF."""
        return self.code & 0xF0

    @property
    def uses_x(self) -> bool:
        """Whether the second operand of an ALU or branch instruction is X, not k."""
        return bool(self.code & 0x08)

    @property
    def end(self) -> int:
        """One past the last byte that a packet load reads, relative to the base of its offset."""
        return self.k + self.opcode.size


class ClassicProgram(NamedTuple):
    """A valid program, from :func:`validate`, and the expression that it was compiled from."""

    instructions: tuple[ClassicInstruction, ...]
    source: str = ""

    def __str__(self) -> str:
        return "\n".join(disassemble(i, position) for position, i in enumerate(self.instructions))


def _load_opcodes() -> dict[int, Opcode]:
    opcodes = {}
    for bits, letter, size in ((0x00, "", 4), (0x08, "h", 2), (0x10, "b", 1)):
        opcodes[0x20 | bits] = Opcode(
            InstructionKind.LOAD_ABSOLUTE, f"ld{letter}", "[{signed}]", "", "A", size
        )
        opcodes[0x40 | bits] = Opcode(
            InstructionKind.LOAD_INDIRECT, f"ld{letter}", "[x + {signed}]", "X", "A", size
        )
    return opcodes


def _alu_opcodes() -> dict[int, Opcode]:
    opcodes = {}
    names = ("add", "sub", "mul", "div", "or", "and", "lsh", "rsh", None, "mod", "xor")
    for number, name in enumerate(names):
        if name is not None:
            constant = "#{k:#x}" if name in ("and", "or", "xor") else "#{signed}"
            opcodes[number << 4 | 0x04] = Opcode(InstructionKind.ALU, name, constant, "A", "A")
            opcodes[number << 4 | 0x0C] = Opcode(InstructionKind.ALU, name, "x", "AX", "A")
    opcodes[0x84] = Opcode(InstructionKind.ALU, "neg", "", "A", "A")
    return opcodes


def _branch_opcodes() -> dict[int, Opcode]:
    opcodes = {}
    for number, name in enumerate(("jeq", "jgt", "jge", "jset"), 1):
        opcodes[number << 4 | 0x05] = Opcode(InstructionKind.BRANCH, name, "#{k:#x}", "A", "")
        opcodes[number << 4 | 0x0D] = Opcode(InstructionKind.BRANCH, name, "x", "AX", "")
    return opcodes


OPCODES: dict[int, Opcode] = {
    **_load_opcodes(),
    **_alu_opcodes(),
    **_branch_opcodes(),
    0x00: Opcode(InstructionKind.LOAD_IMMEDIATE, "ld", "#{k:#x}", "", "A"),
    0x01: Opcode(InstructionKind.LOAD_IMMEDIATE, "ldx", "#{k:#x}", "", "X"),
    0x80: Opcode(InstructionKind.LOAD_LENGTH, "ld", "#pktlen", "", "A"),
    0x81: Opcode(InstructionKind.LOAD_LENGTH, "ldx", "#pktlen", "", "X"),
    0x60: Opcode(InstructionKind.LOAD_SCRATCH, "ld", "M[{signed}]", "", "A"),
    0x61: Opcode(InstructionKind.LOAD_SCRATCH, "ldx", "M[{signed}]", "", "X"),
    0xB1: Opcode(InstructionKind.LOAD_HEADER_LENGTH, "ldxb", "4*([{signed}]&0xf)", "", "X", 1),
    0x02: Opcode(InstructionKind.STORE_SCRATCH, "st", "M[{signed}]", "A", ""),
    0x03: Opcode(InstructionKind.STORE_SCRATCH, "stx", "M[{signed}]", "X", ""),
    0x05: Opcode(InstructionKind.JUMP, "ja", "{target}", "", ""),
    0x06: Opcode(InstructionKind.RETURN, "ret", "#{signed}", "", ""),
    0x16: Opcode(InstructionKind.RETURN, "ret", "", "A", ""),
    0x07: Opcode(InstructionKind.MOVE, "tax", "", "A", "X"),
    0x87: Opcode(InstructionKind.MOVE, "txa", "", "X", "A"),
}

CHECK_FLAG = 0x100
CHECK_OPCODES = {
    code | CHECK_FLAG: form._replace(
        kind=InstructionKind.CHECK_ABSOLUTE
        if form.kind is InstructionKind.LOAD_ABSOLUTE
        else InstructionKind.CHECK_INDIRECT,
        mnemonic=form.mnemonic.replace("ld", "chk"),
        writes="",
    )
    for code, form in OPCODES.items()
    if form.kind in (InstructionKind.LOAD_ABSOLUTE, InstructionKind.LOAD_INDIRECT)
}
"""Opcodes of the optimizer's own: no match if the bytes are out of bounds, otherwise no effect."""
_ALL_OPCODES = OPCODES | CHECK_OPCODES

RETURN_A = 0x16
_DIVISIONS = (0x34, 0x94)
_SCRATCH_KINDS = (InstructionKind.LOAD_SCRATCH, InstructionKind.STORE_SCRATCH)

ANCILLARY_NAMES = (
    "protocol", "packet type", "interface index", "netlink attribute", "nested netlink attribute",
    "mark", "queue", "hardware type", "receive hash", "CPU", "xor", "VLAN tag", "VLAN presence",
    "payload offset", "random number", "VLAN protocol",
)  # fmt: skip
"""Linux's SKF_AD_* extensions in the order of their numbers (include/uapi/linux/filter.h)."""


def next_positions(instruction: ClassicInstruction, position: int) -> tuple[int, ...]:
    """Return the positions of the next instructions: (if true, if false) for a branch.

    The offset of ``ja`` is signed: libpcap's ``protochain`` jumps backwards with it.

    Args:
        instruction: the instruction.
        position: its index in the program.
    """
    following = position + 1
    if instruction.kind is InstructionKind.RETURN:
        return ()
    if instruction.kind is InstructionKind.JUMP:
        return (following + signed32(instruction.k),)
    if instruction.kind is InstructionKind.BRANCH:
        return (following + instruction.jt, following + instruction.jf)
    return (following,)


def signed32(value: int) -> int:
    """Return the u32 ``value`` reinterpreted as s32."""
    return value - (1 << 32) if value & 0x80000000 else value


def disassemble(instruction: ClassicInstruction, position: int) -> str:
    """Return the instruction's disassembly, a line of ``tcpdump -d``."""
    opcode = _ALL_OPCODES.get(instruction.code)
    if opcode is None:
        return f"({position:03}) unimp    {instruction.code:#x}"
    following = next_positions(instruction, position)
    operand = opcode.operand_format.format(
        k=instruction.k, signed=signed32(instruction.k), target=following[0] if following else 0
    )
    text = f"({position:03}) {opcode.mnemonic:<8} {operand}"
    if opcode.kind is InstructionKind.BRANCH:
        text = f"{text:<31} jt {following[0]}\tjf {following[1]}"
    return text.rstrip()


def validate(instructions: Sequence[ClassicInstruction], source: str = "") -> ClassicProgram:
    """Check that libpcap's interpreter would run the program, and return it.

    Args:
        instructions: from libpcap's compiler.
        source: the expression, for messages.

    Raises:
        FilterError: an opcode, jump, scratch word or constant divisor that the interpreter
            (``pcapint_validate_filter``) rejects, or a load of an SKF_AD_* extension, which is
            defined for a packet socket's skb only.
    """
    for position, instruction in enumerate(instructions):
        fault = _find_fault(instruction, position, len(instructions))
        if fault:
            suffix = f" in filter '{source}'" if source else ""
            raise FilterError(f"{fault}{suffix}: {disassemble(instruction, position)}")
    if not instructions or instructions[-1].kind is not InstructionKind.RETURN:
        raise FilterError(f"classic BPF program of filter '{source}' does not end with ret")
    return ClassicProgram(tuple(instructions), source)


def _find_fault(instruction: ClassicInstruction, position: int, length: int) -> str:
    opcode = OPCODES.get(instruction.code)
    if opcode is None:
        return f"classic BPF opcode {instruction.code:#x} is unknown"
    if any(not 0 <= target < length for target in next_positions(instruction, position)):
        return "classic BPF jump leaves the program"
    if opcode.kind in _SCRATCH_KINDS and instruction.k >= SCRATCH_WORDS:
        return f"classic BPF scratch word {instruction.k} does not exist"
    if instruction.code in _DIVISIONS and instruction.k == 0:
        return "division by zero"
    number = instruction.k - ANCILLARY_BASE
    if opcode.kind is InstructionKind.LOAD_ABSOLUTE and 0 <= number < ANCILLARY_END:
        name = (
            ANCILLARY_NAMES[number // 4]
            if number // 4 < len(ANCILLARY_NAMES)
            else f"extension {number}"
        )
        return f"the {name} that a capturing socket has is not available for a traced skb"
    return ""
