"""Pass 8: layout of the filter's stack frame, below the host program's.

Establishes: an offset from r10 for everything that is kept in memory, and for nothing else.
Registers are saved in aligned 8-byte slots, which the verifier tracks. The verifier requires stack
loads to be aligned, but packet fields may not be: each buffer is shifted so that as few of its
loads as possible have to be split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.filter.cbpf import Kind
from pypwru.filter.guards import CONSTANT_LOADS
from pypwru.filter.liveness import reads, writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.filter.plan import Plan

STACK_LIMIT = -512  # MAX_BPF_STACK
SLOT = 8
UNITS = (4, 2, 1)

CAPLEN, LENGTH, TAG = "caplen", "length", "tag"
DATA = "data"
"""Slot of the address of the packet's byte 0: an offset is added to it. For a frame with an
accelerated tag it is 4 less, which is right for offsets behind the tag only."""
NEAR = "window delta"
"""Slot of the difference between addresses in the header window and in the packet. It is added for
offsets before the end of an accelerated tag, and is 0 without one."""
SAVED_A, SAVED_X = "saved A", "saved X"
BUDGET, WINDOW, FAR = "loop budget", "header window", "far load"

Frame = dict[str, int]
"""Name of a slot -> offset from r10: the names above, "M0".."M15", "indirect window 0"...
Slots that are not needed are absent."""


class Buffer(NamedTuple):
    """``size`` bytes of the packet on the stack, with the (offset, size) of every load from it."""

    name: str
    size: int
    loads: tuple[tuple[int, int], ...]


def strip_name(number: int) -> str:
    """Return the name of the slot of indirect window ``number``."""
    return f"indirect window {number}"


def lay_out(plan: Plan, stack_base: int, source: str) -> Frame:
    """Lay out the frame below ``stack_base``.

    Args:
        plan: the filter.
        stack_base: the lowest offset from r10 that the host program uses; 0 or negative.
        source: the expression, for the message.

    Raises:
        FilterError: it would exceed the 512 bytes of stack that a BPF program has.
    """
    frame: Frame = {}
    top = stack_base
    for name in _registers(plan):
        top = frame[name] = (top - SLOT) // SLOT * SLOT
    for name in _scratch(plan):
        top = frame[name] = (top - 4) // 4 * 4
    for buffer in _buffers(plan):
        shift = min(range(SLOT), key=lambda n: _cost(buffer, n))
        top = frame[buffer.name] = (top - buffer.size - shift) // SLOT * SLOT + shift
    if top < STACK_LIMIT:
        needed, left = stack_base - top, stack_base - STACK_LIMIT
        raise FilterError(
            f"filter '{source}' needs {needed} bytes of stack and {left} are left: "
            "shorten the filter expression, or choose fewer output options"
        )
    return frame


def pieces(offset: int, size: int, most: int = 4) -> list[tuple[int, int]]:
    """Split an access to the stack into aligned ones.

    Args:
        offset: from r10.
        size: in bytes.
        most: the largest access, in bytes.

    Returns:
        (offset from r10, size in bytes) of each.
    """
    found = []
    end = offset + size
    while offset < end:
        size = next(n for n in UNITS if n <= most and offset % n == 0 and offset + n <= end)
        found.append((offset, size))
        offset += size
    return found


def _cost(buffer: Buffer, shift: int) -> int:
    return sum(len(pieces(shift + offset, size)) for offset, size in buffer.loads)


def _registers(plan: Plan) -> Iterator[str]:
    """Yield the 8-byte slots: what must survive helper calls."""
    calls = plan.reads.calls_in_body
    if calls:
        yield DATA
    if calls or plan.reads.window:
        if plan.checks_in_body:
            yield CAPLEN
        if plan.uses_len:
            yield LENGTH
    if plan.tag_aware:
        yield TAG
        if plan.reads.strips:
            yield NEAR
    if calls:
        yield SAVED_X
    if plan.reads.has_far:
        yield SAVED_A
    if plan.loops:
        yield BUDGET


def _scratch(plan: Plan) -> list[str]:
    names = set[str]()
    for instruction in plan.flow.instructions():
        names |= {n for n in reads(instruction) | writes(instruction) if n.startswith("M")}
    return sorted(names)


def _buffers(plan: Plan) -> Iterator[Buffer]:
    window = plan.reads.window
    code = list(plan.flow.instructions())
    if window:
        constant = [i for i in code if i.kind in CONSTANT_LOADS and window.covers(i)]
        loads = tuple((i.k - window.low, i.form.size) for i in constant)
        yield Buffer(WINDOW, window.size, loads)
    for number, span in enumerate(plan.reads.strips):
        indirect = [i for i in code if i.kind is Kind.LOAD_INDIRECT and span.covers(i)]
        loads = tuple((i.k - span.low, i.form.size) for i in indirect)
        yield Buffer(strip_name(number), span.size, loads)
    if plan.reads.has_far:
        yield Buffer(FAR, 4, ((0, 4),))
