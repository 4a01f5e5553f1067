"""``--output-skb-metadata`` and ``--output-xdp-metadata``: members that are printed with events."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.expression.check import Checker, mentions
from pypwru.expression.compiler import STRUCTS
from pypwru.expression.memory import SLOT, Frame, Memory
from pypwru.expression.parse import parse
from pypwru.expression.paths import LARGEST, Bits, Paths
from pypwru.expression.show import Show, Shown, shower
from pypwru.expression.source import Mark, shown
from pypwru.filter.ebpf import MEMORY_SIZE, R0, R1, R2, R10, Assembler, Insn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.btf.query import BTF

MOST = 4
"""Members at most: elements of the u64 array that the BPF program fills."""
_ARROWS = re.compile(r"->|\.")
_REMEMBERED = 1024  # formatted values that are cached for each member


class Item(NamedTuple):
    """A member to print.

    Args:
        name: the last name of ``text``, with its index; it is printed before the ``=``.
        text: the whole expression, as typed.
        bits: its position in kernel memory.
        show: formats its value.
    """

    name: str
    text: str
    bits: Bits
    show: Show

    def shown(self, word: int) -> Shown:
        """Format the member's bits in ``word``, the u64 that the BPF program stored."""
        return self.show(word >> self.bits.shift & (1 << self.bits.width) - 1)


class Members(NamedTuple):
    """Up to four members.

    Args:
        flag: the option that they were given to.
        items: the members, in the order given.
    """

    flag: str
    items: tuple[Item, ...]

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
            raise FilterError(f"{self.flag}: {problem}") from None

    def text(self, values: Sequence[int]) -> str:
        """Return `` name=value name=value`` for the u64 values that the BPF program stored."""
        pairs = zip(self.items, values, strict=False)
        return "".join(f" {item.name}={item.shown(word).text}" for item, word in pairs)

    def values(self, values: Sequence[int]) -> dict[str, object]:
        """Return name -> JSON value for the u64 values that the BPF program stored.

        Members of the same name have their whole text as the key.
        """
        names = [item.name for item in self.items]
        return {
            item.name if names.count(item.name) == 1 else item.text: item.shown(word).plain
            for item, word in zip(self.items, values, strict=False)
        }


def compile_members(texts: Sequence[str], root: str, btf: BTF) -> Members:
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
    if len(texts) > MOST:
        raise FilterError(
            f"Failed to parse {root} metadata exprs: too many {root} metadata exprs, max {MOST}"
        )
    flag = f"--output-{root}-metadata"
    paths = Paths(btf, root, STRUCTS[root])
    return Members(flag, tuple(_item(Mark(text, flag), paths) for text in texts if text))


def _item(source: Mark, paths: Paths) -> Item:
    tree = parse(source)
    if not mentions(tree, paths.root):
        raise FilterError(
            f"{source.flag} must start with {paths.root}: '{shown(source.text)}' is not a member "
            "of it"
        )
    spot = Checker(paths).spot(tree)
    if spot is None:
        raise source.error(f"name a member of {paths.root}, such as {paths.root}->len")
    bits = paths.bits(spot, tree.mark)
    text = source.text.strip()
    name = _ARROWS.split(text)[-1].strip()  # mark of skb->mark, cb[3] of skb->cb[3]
    if bits.cell.size > LARGEST:
        raise tree.mark.error(
            f"{paths.root} metadata field '{name}' ({paths.described(spot)}) is too large, max "
            f"{LARGEST} bytes"
        )
    show = shower(paths.btf, spot.place.type, bits.width)
    return Item(name, text, bits, lru_cache(_REMEMBERED)(show))


def _emit(items: Sequence[Item], stack_base: int) -> list[Insn]:
    asm = Assembler()
    frame = Frame(stack_base)
    root, out = frame.take(), frame.take()
    asm.store(SLOT, R10, out, R2)  # the verifier tracks the pointer, as the slot is aligned
    asm.forget_pointer(R1)
    asm.store(SLOT, R10, root, R1)
    for place, item in enumerate(items):
        failed, stored = asm.label(), asm.label()
        memory = Memory(asm, frame, root, {}, failed)
        with memory.scope():
            where = memory.fetch(item.bits.cell)
        size = item.bits.cell.size if item.bits.cell.size in MEMORY_SIZE else SLOT
        asm.load(size, R0, R10, where)
        asm.jump(stored)
        asm.place(failed)
        asm.constant(R0, 0)
        asm.place(stored)
        asm.load(SLOT, R1, R10, out)
        asm.store(SLOT, R1, SLOT * place, R0)
    if len(items) < MOST:
        asm.load(SLOT, R1, R10, out)
        asm.constant(R0, 0)
    for place in range(len(items), MOST):
        asm.store(SLOT, R1, SLOT * place, R0)
    return asm.finish()
