"""Reads of kernel memory to the stack: the frame below the host program's, and helper calls.

Memory that several parts of an expression use has a slot of its own, and is read where it is first
needed. The verifier rejects a load from a slot that was not written on every path to it, so
:attr:`Memory.known` is the set of slots that are certainly filled at the next instruction.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R0, R1, R2, R3, R10, Assembler
from pypwru.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.expr.ir import MemoryRef

STACK_LIMIT = -512  # MAX_BPF_STACK
SLOT_SIZE = 8
PROBE_READ_KERNEL_STR = 115  # BPF_FUNC_probe_read_kernel_str: returns the length with the NUL
_LOAD_SIZES = (1, 2, 4, 8)


class OutOfStack(FilterError):
    """The frame would exceed the 512 bytes of stack that a BPF program has."""


class StackFrame:
    """Allocates stack slots, aligned to 8 bytes.

    Args:
        base: the lowest offset from r10 that is in use, 0 or negative.
    """

    def __init__(self, base: int) -> None:
        self._top = base // SLOT_SIZE * SLOT_SIZE

    def allocate(self, size: int = SLOT_SIZE) -> int:
        """Allocate ``size`` bytes and return their offset from r10.

        Raises:
            OutOfStack: not enough is left.
        """
        self._top -= (size + SLOT_SIZE - 1) // SLOT_SIZE * SLOT_SIZE
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


class MemoryReader:
    """Generates reads of kernel memory into stack slots.

    Args:
        asm: receives the instructions.
        frame: allocates the slots.
        root_slot: offset from r10 of the slot that holds the root's address.
        cached_slots: memory that has a slot for the whole expression -> its offset from r10.
        fault_label: the label to jump to if memory can't be read, as through a NULL pointer.
    """

    def __init__(
        self,
        asm: Assembler,
        frame: StackFrame,
        root_slot: int,
        cached_slots: dict[MemoryRef, int],
        fault_label: int,
    ) -> None:
        self.filled: frozenset[MemoryRef] = frozenset()
        self._asm = asm
        self._frame = frame
        self._root_slot = root_slot
        self._cached_slots = cached_slots
        self._fault_label = fault_label
        self._scoped_slots: dict[MemoryRef, int] = {}

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Free the slots that the ``with`` block fills at its end, except those of cached reads."""
        outer_slots = dict(self._scoped_slots)
        with self._frame.scope():
            yield
        self._scoped_slots = outer_slots

    def fetch(self, ref: MemoryRef) -> int:
        """Generate the read of ``ref`` unless a slot has it; r0-r5 are clobbered.

        Returns:
            The slot's offset from r10.
        """
        if not ref.offsets:
            return self._root_slot
        if ref in self._scoped_slots:
            return self._scoped_slots[ref]
        offset = self._cached_slots.get(ref)
        if offset is None:
            self._scoped_slots[ref] = offset = self._frame.allocate(max(ref.size, SLOT_SIZE))
        elif ref in self.filled:
            return offset
        else:
            self.filled |= {ref}
        self._read(ref, offset)
        return offset

    def slot_of(self, ref: MemoryRef) -> int:
        """Return the offset from r10 of the slot of ``ref``, which was fetched before."""
        return self._scoped_slots.get(ref, self._cached_slots.get(ref, self._root_slot))

    def _read(self, ref: MemoryRef, offset: int) -> None:
        self._load_base_address(ref, offset)
        self._asm.add(R3, ref.offsets[-1])
        if ref.size not in _LOAD_SIZES and ref.size < SLOT_SIZE:
            self._asm.constant(R2, 0)  # an 8-byte load follows: initialise the rest of the slot
            self._asm.store(SLOT_SIZE, R10, offset, R2)
        self._asm.move(R1, R10)
        self._asm.add(R1, offset)
        self._asm.constant(R2, ref.size)
        if ref.is_string:
            self._asm.call(PROBE_READ_KERNEL_STR)
            self._asm.branch(ebpf.JSLT, R0, 0, self._fault_label)
        else:
            self._asm.call(ebpf.PROBE_READ_KERNEL)
            self._asm.branch(ebpf.JNE, R0, 0, self._fault_label)

    def _load_base_address(self, ref: MemoryRef, scratch: int) -> None:
        """Generate r3 = the address that the last offset of ``ref`` is relative to.

        Args:
            ref: the memory to read.
            scratch: offset of a slot for the pointer if it has none of its own.
        """
        pointer = ref.pointer
        slot = self._root_slot
        if pointer is not None:
            if pointer in self._scoped_slots or pointer in self._cached_slots:
                slot = self.fetch(pointer)
            else:
                slot = scratch
                self._read(pointer, scratch)
        self._asm.load(SLOT_SIZE, R3, R10, slot)
