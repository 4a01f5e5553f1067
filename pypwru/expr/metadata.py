"""``--output-skb-metadata`` and ``--output-xdp-metadata``: members that are printed with events."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.asm.ebpf import MEMORY_SIZE, R0, R1, R2, R10, Assembler, Insn
from pypwru.errors import FilterError
from pypwru.expr.compiler import ROOT_STRUCTS
from pypwru.expr.format_value import FormattedValue, ValueFormatter, make_formatter
from pypwru.expr.member_access import MAX_READ, BitRange, MemberAccess
from pypwru.expr.parse import parse
from pypwru.expr.position import Position, printable
from pypwru.expr.stack import SLOT_SIZE, MemoryReader, StackFrame
from pypwru.expr.typecheck import TypeChecker, references_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.btf.query import BTF

MAX_ITEMS = 4
"""Members at most: elements of the u64 array that the BPF program fills."""
_MEMBER_OPERATOR = re.compile(r"->|\.")
_CACHE_SIZE = 1024  # formatted values that are cached for each member


class MetadataMember(NamedTuple):
    """A member to print.

    Args:
        name: the last name of ``expression``, with its index; it is printed before the ``=``.
        expression: the whole expression, as typed.
        bit_range: its position in kernel memory.
        formatter: formats its value.
    """

    name: str
    expression: str
    bit_range: BitRange
    formatter: ValueFormatter

    def format_value(self, raw: int) -> FormattedValue:
        """Format the member's bits in ``raw``, the u64 that the BPF program stored."""
        return self.formatter(raw >> self.bit_range.shift & (1 << self.bit_range.width) - 1)


class MetadataMembers(NamedTuple):
    """Up to four members.

    Args:
        flag: the option that they were given to.
        items: the members, in the order given.
    """

    flag: str
    items: tuple[MetadataMember, ...]

    def body(self, stack_base: int) -> list[Insn]:
        """Return eBPF that reads the members into an array.

        On entry r1 = address of the struct, r2 = address of a u64[4], which is written completely.
        A member that can't be read, for example since a pointer is NULL, is 0. r0-r5 are clobbered,
        r6-r9 preserved.

        Args:
            stack_base: the lowest offset from r10 that is in use, 0 or negative.

        Raises:
            FilterError: too little stack is left.
        """
        try:
            return _emit(self.items, stack_base)
        except FilterError as problem:
            raise FilterError(f"{self.flag}: {problem.cause}", problem.cure) from None

    def format_text(self, raw_values: Sequence[int]) -> str:
        """Return `` name=value name=value`` for the u64 values that the BPF program stored."""
        pairs = zip(self.items, raw_values, strict=False)
        return "".join(f" {item.name}={item.format_value(raw).text}" for item, raw in pairs)

    def json_values(self, raw_values: Sequence[int]) -> dict[str, object]:
        """Return name -> JSON value for the u64 values that the BPF program stored.

        Members of the same name have their whole text as the key.
        """
        names = [item.name for item in self.items]
        return {
            item.name if names.count(item.name) == 1 else item.expression: item.format_value(
                raw
            ).json_value
            for item, raw in zip(self.items, raw_values, strict=False)
        }


def compile_members(texts: Sequence[str], root: str, btf: BTF) -> MetadataMembers:
    """Compile the members of an output option.

    Args:
        texts: such as ``skb->dev->ifindex``; empty ones are skipped.
        root: "skb" or "xdp".
        btf: the kernel's types.

    Raises:
        FilterError: there are more than four, or there is no such member; then the message points
            at the column.
        BTFError: the struct is not in ``btf``.
    """
    if len(texts) > MAX_ITEMS:
        raise FilterError(
            f"Failed to parse {root} metadata exprs: "
            f"too many {root} metadata exprs, max {MAX_ITEMS}"
        )
    flag = f"--output-{root}-metadata"
    member_access = MemberAccess(btf, root, ROOT_STRUCTS[root])
    return MetadataMembers(
        flag, tuple(_compile_member(Position(text, flag), member_access) for text in texts if text)
    )


def _compile_member(source: Position, member_access: MemberAccess) -> MetadataMember:
    tree = parse(source)
    if not references_name(tree, member_access.root):
        raise FilterError(
            f"{source.flag} must start with {member_access.root}: "
            f"'{printable(source.text)}' is not a member of it"
        )
    lvalue = TypeChecker(member_access).lvalue(tree)
    if lvalue is None:
        raise source.error(
            f"name a member of {member_access.root}, such as {member_access.root}->len"
        )
    bit_range = member_access.bit_range(lvalue, tree.position)
    text = source.text.strip()
    name = _MEMBER_OPERATOR.split(text)[-1].strip()  # mark of skb->mark, cb[3] of skb->cb[3]
    if bit_range.memory.size > MAX_READ:
        raise tree.position.error(
            f"{member_access.root} metadata field '{name}' ({member_access.describe_type(lvalue)}) "
            f"is too large, max {MAX_READ} bytes"
        )
    formatter = make_formatter(member_access.btf, lvalue.member.type, bit_range.width)
    return MetadataMember(name, text, bit_range, lru_cache(_CACHE_SIZE)(formatter))


def _emit(items: Sequence[MetadataMember], stack_base: int) -> list[Insn]:
    asm = Assembler()
    frame = StackFrame(stack_base)
    root_slot, array_slot = frame.allocate(), frame.allocate()
    asm.store(
        SLOT_SIZE, R10, array_slot, R2
    )  # the verifier tracks the pointer, as the slot is aligned
    asm.make_scalar(R1)
    asm.store(SLOT_SIZE, R10, root_slot, R1)
    for index, item in enumerate(items):
        fault_label, store_label = asm.new_label(), asm.new_label()
        memory = MemoryReader(asm, frame, root_slot, {}, fault_label)
        with memory.scope():
            slot = memory.fetch(item.bit_range.memory)
        size = (
            item.bit_range.memory.size if item.bit_range.memory.size in MEMORY_SIZE else SLOT_SIZE
        )
        asm.load(size, R0, R10, slot)
        asm.jump(store_label)
        asm.bind_label(fault_label)
        asm.constant(R0, 0)
        asm.bind_label(store_label)
        asm.load(SLOT_SIZE, R1, R10, array_slot)
        asm.store(SLOT_SIZE, R1, SLOT_SIZE * index, R0)
    if len(items) < MAX_ITEMS:
        asm.load(SLOT_SIZE, R1, R10, array_slot)
        asm.constant(R0, 0)
    for index in range(len(items), MAX_ITEMS):
        asm.store(SLOT_SIZE, R1, SLOT_SIZE * index, R0)
    return asm.finish()
