"""Pass 8: layout of the filter's stack frame, below the host program's.

Establishes: an offset from r10 for everything that is kept in memory, and for nothing else.
Registers are saved in aligned 8-byte slots, which the verifier tracks. The verifier requires stack
loads to be aligned, but packet fields may not be: each buffer is shifted so that as few of its
loads as possible have to be split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.asm.cbpf import InstructionKind
from pypwru.errors import FilterError
from pypwru.filter.guards import CONSTANT_LOADS
from pypwru.filter.liveness import locations_read, locations_written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.filter.passes import Plan

STACK_LIMIT = -512  # MAX_BPF_STACK
SLOT_SIZE = 8
ACCESS_SIZES = (4, 2, 1)

CAPLEN_SLOT, LENGTH_SLOT, TAG_SLOT = "caplen", "length", "tag"
DATA_SLOT = "data"
"""Slot of the address of the packet's byte 0: an offset is added to it. For a frame with an
accelerated tag it is 4 less, which is right for offsets behind the tag only."""
WINDOW_DELTA_SLOT = "window delta"
"""Slot of the difference between addresses in the header window and in the packet. It is added for
offsets before the end of an accelerated tag, and is 0 without one."""
SAVED_A_SLOT, SAVED_X_SLOT = "saved A", "saved X"
LOOP_BUDGET_SLOT, HEADER_WINDOW_SLOT, FAR_LOAD_SLOT = "loop budget", "header window", "far load"

StackLayout = dict[str, int]
"""Name of a slot -> offset from r10: the names above, "M0".."M15", "indirect window 0"...
Slots that are not needed are absent."""


class Buffer(NamedTuple):
    """``size`` bytes of the packet on the stack, with the (offset, size) of every load from it."""

    name: str
    size: int
    loads: tuple[tuple[int, int], ...]


def indirect_window_slot(number: int) -> str:
    """Return the name of the slot of indirect window ``number``."""
    return f"indirect window {number}"


def lay_out_stack(plan: Plan, stack_base: int, source: str) -> StackLayout:
    """Lay out the frame below ``stack_base``.

    Args:
        plan: the filter.
        stack_base: the lowest offset from r10 that the host program uses; 0 or negative.
        source: the expression, for the message.

    Raises:
        FilterError: it would exceed the 512 bytes of stack that a BPF program has.
    """
    layout: StackLayout = {}
    top = stack_base
    for name in _register_slots(plan):
        top = layout[name] = (top - SLOT_SIZE) // SLOT_SIZE * SLOT_SIZE
    for name in _scratch_slots(plan):
        top = layout[name] = (top - 4) // 4 * 4
    for buffer in _buffers(plan):
        shift = min(range(SLOT_SIZE), key=lambda n: _split_cost(buffer, n))
        top = layout[buffer.name] = (top - buffer.size - shift) // SLOT_SIZE * SLOT_SIZE + shift
    if top < STACK_LIMIT:
        needed, available = stack_base - top, stack_base - STACK_LIMIT
        raise FilterError(
            f"filter '{source}' needs {needed} bytes of stack and {available} are left: "
            "shorten the filter expression, or choose fewer output options"
        )
    return layout


def split_aligned(offset: int, size: int, max_size: int = 4) -> list[tuple[int, int]]:
    """Split an access to the stack into aligned ones.

    Args:
        offset: from r10.
        size: in bytes.
        max_size: the largest access, in bytes.

    Returns:
        (offset from r10, size in bytes) of each.
    """
    found = []
    end = offset + size
    while offset < end:
        size = next(
            n for n in ACCESS_SIZES if n <= max_size and offset % n == 0 and offset + n <= end
        )
        found.append((offset, size))
        offset += size
    return found


def _split_cost(buffer: Buffer, shift: int) -> int:
    return sum(len(split_aligned(shift + offset, size)) for offset, size in buffer.loads)


def _register_slots(plan: Plan) -> Iterator[str]:
    """Yield the 8-byte slots: what must survive helper calls."""
    has_calls = plan.loads.has_calls_in_body
    if has_calls:
        yield DATA_SLOT
    if has_calls or plan.loads.header_window:
        if plan.has_checks_in_body:
            yield CAPLEN_SLOT
        if plan.uses_len:
            yield LENGTH_SLOT
    if plan.is_tag_aware:
        yield TAG_SLOT
        if plan.loads.indirect_windows:
            yield WINDOW_DELTA_SLOT
    if has_calls:
        yield SAVED_X_SLOT
    if plan.loads.has_far_loads:
        yield SAVED_A_SLOT
    if plan.has_loops:
        yield LOOP_BUDGET_SLOT


def _scratch_slots(plan: Plan) -> list[str]:
    names = set[str]()
    for instruction in plan.cfg.instructions():
        names |= {
            n
            for n in locations_read(instruction) | locations_written(instruction)
            if n.startswith("M")
        }
    return sorted(names)


def _buffers(plan: Plan) -> Iterator[Buffer]:
    window = plan.loads.header_window
    code = list(plan.cfg.instructions())
    if window:
        constant = [i for i in code if i.kind in CONSTANT_LOADS and window.covers(i)]
        loads = tuple((i.k - window.low, i.opcode.size) for i in constant)
        yield Buffer(HEADER_WINDOW_SLOT, window.size, loads)
    for number, span in enumerate(plan.loads.indirect_windows):
        indirect = [i for i in code if i.kind is InstructionKind.LOAD_INDIRECT and span.covers(i)]
        loads = tuple((i.k - span.low, i.opcode.size) for i in indirect)
        yield Buffer(indirect_window_slot(number), span.size, loads)
    if plan.loads.has_far_loads:
        yield Buffer(FAR_LOAD_SLOT, 4, ((0, 4),))
