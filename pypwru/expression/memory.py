"""Reads of kernel memory to the stack: the frame below the host program's, and helper calls.

Memory that several parts of an expression use has a slot of its own, and is read where it is first
needed. The verifier rejects a load from a slot that was not written on every path to it, so
:attr:`Memory.known` is the set of slots that are certainly filled at the next instruction.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypwru.errors import FilterError
from pypwru.filter import ebpf
from pypwru.filter.ebpf import R0, R1, R2, R3, R10, Assembler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.expression.tree import Cell

STACK_LIMIT = -512  # MAX_BPF_STACK
SLOT = 8
PROBE_READ_KERNEL_STR = 115  # BPF_FUNC_probe_read_kernel_str: returns the length with the NUL
_WHOLE = (1, 2, 4, 8)


class OutOfStack(FilterError):
    """The frame would exceed the 512 bytes of stack that a BPF program has."""


class Frame:
    """Allocates stack slots, aligned to 8 bytes.

    Args:
        base: the lowest offset from r10 that is in use, 0 or negative.
    """

    def __init__(self, base: int) -> None:
        self._top = base // SLOT * SLOT

    def take(self, size: int = SLOT) -> int:
        """Allocate ``size`` bytes and return their offset from r10.

        Raises:
            OutOfStack: not enough is left.
        """
        self._top -= (size + SLOT - 1) // SLOT * SLOT
        if self._top < STACK_LIMIT:
            raise OutOfStack(
                "the expression needs more stack than is left: write it shorter, or choose fewer "
                "output options"
            )
        return self._top

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Free what is allocated inside the ``with`` block at its end."""
        top = self._top
        yield
        self._top = top


class Memory:
    """Generates reads of kernel memory into stack slots.

    Args:
        asm: receives the instructions.
        frame: allocates the slots.
        root: offset from r10 of the slot that holds the root's address.
        kept: memory that has a slot for the whole expression -> its offset from r10.
        failed: the label to jump to if memory can't be read, as through a NULL pointer.
    """

    def __init__(
        self, asm: Assembler, frame: Frame, root: int, kept: dict[Cell, int], failed: int
    ) -> None:
        self.known: frozenset[Cell] = frozenset()
        self._asm = asm
        self._frame = frame
        self._root = root
        self._kept = kept
        self._failed = failed
        self._held: dict[Cell, int] = {}

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Free the slots that the ``with`` block fills at its end, except those of cached reads."""
        held = dict(self._held)
        with self._frame.scope():
            yield
        self._held = held

    def fetch(self, cell: Cell) -> int:
        """Generate the read of ``cell`` unless a slot has it; r0-r5 are clobbered.

        Returns:
            The slot's offset from r10.
        """
        if not cell.steps:
            return self._root
        if cell in self._held:
            return self._held[cell]
        kept = self._kept.get(cell)
        if kept is None:
            self._held[cell] = kept = self._frame.take(max(cell.size, SLOT))
        elif cell in self.known:
            return kept
        else:
            self.known |= {cell}
        self._read(cell, kept)
        return kept

    def slot(self, cell: Cell) -> int:
        """Return the offset from r10 of the slot of ``cell``, which was fetched before."""
        return self._held.get(cell, self._kept.get(cell, self._root))

    def _read(self, cell: Cell, to: int) -> None:
        self._base(cell, to)
        self._asm.add(R3, cell.steps[-1])
        if cell.size not in _WHOLE and cell.size < SLOT:
            self._asm.constant(R2, 0)  # an 8-byte load follows: initialise the rest of the slot
            self._asm.store(SLOT, R10, to, R2)
        self._asm.move(R1, R10)
        self._asm.add(R1, to)
        self._asm.constant(R2, cell.size)
        if cell.is_string:
            self._asm.call(PROBE_READ_KERNEL_STR)
            self._asm.branch(ebpf.JSLT, R0, 0, self._failed)
        else:
            self._asm.call(ebpf.PROBE_READ_KERNEL)
            self._asm.branch(ebpf.JNE, R0, 0, self._failed)

    def _base(self, cell: Cell, scratch: int) -> None:
        """Generate r3 = the address that the last offset of ``cell`` is relative to.

        Args:
            cell: the memory to read.
            scratch: offset of a slot for the pointer if it has none of its own.
        """
        pointer = cell.pointer
        where = self._root
        if pointer is not None:
            if pointer in self._held or pointer in self._kept:
                where = self.fetch(pointer)
            else:
                where = scratch
                self._read(pointer, scratch)
        self._asm.load(SLOT, R3, R10, where)
