"""Pass 5: planning of packet loads.

Packet data is copied to the stack by bpf_probe_read_kernel(), in as few calls as possible:

- the *header window*: all loads at a constant offset with an end of at most WINDOW_LIMIT are served
  by one read of constant size in the filter's prologue;
- an *indirect window*: loads at X + k with adjacent k (two ports, the TCP flags) share one read,
  which is repeated only where X may have changed. If X is the length of an IPv4 header it is nearly
  always 20. Then the indirect window is a part of the header window, and is copied from there; the
  helper is called for other values of X only.

Reading past ``caplen`` is harmless: in an skb the linear area is followed by skb_shared_info (320
bytes), and the helper handles faults. Whether a byte exists is decided by the bounds check of its
load, never by the read.

Establishes: every packet load is covered by a window, or read by itself if its constant offset is
too large; for each load from an indirect window it is known whether it must call the helper and
whether its bounds check is still needed.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.filter.blocks import Block, Flow, predecessors
from pypwru.filter.cbpf import ClassicInstruction, Kind
from pypwru.filter.guards import CONSTANT_LOADS

WINDOW_LIMIT = 128
"""Loads at a constant offset that end after this byte are not in the header window."""
STRIP_LIMIT = 16
"""Largest size of an indirect window, in bytes."""
GRAIN = 8
"""The size of the header window is a multiple of this, in bytes: copy_from_kernel_nofault() copies
eight bytes at a time."""

MOST = 16384
"""Bytes from the start of a packet that a filter can read if some are in fragments: GATHERED of
bpf/fragments.h."""

NO_STRIP = -1
USUAL_LENGTH = 20
"""Length of an IPv4 header without options (IHL 5), in bytes."""


class Span(NamedTuple):
    """A window: bytes [low, high) from the packet's start, or from X for an indirect window."""

    low: int
    high: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.high - self.low

    def covers(self, instruction: ClassicInstruction) -> bool:
        """Return whether all bytes that a packet load reads are inside."""
        return self.low <= instruction.k and instruction.end <= self.high


class StripLoad(NamedTuple):
    """A load at X + k, or the bounds check of one.

    Args:
        strip: index of its indirect window; NO_STRIP for a check.
        must_call: the window may not be filled for this X.
        must_check: X + k + size <= caplen is not proved yet.
        usual: X is the length of an IPv4 header, so probably 20.
    """

    strip: int
    must_call: bool
    must_check: bool
    usual: bool


class Reads(NamedTuple):
    """How the packet loads of a filter are done.

    Args:
        window: the header window; None without loads at a small constant offset.
        strips: the indirect windows.
        indirect: program position -> load at X + k.
        has_far: a load has a constant offset beyond WINDOW_LIMIT and is read by itself.
    """

    window: Span | None
    strips: tuple[Span, ...]
    indirect: dict[int, StripLoad]
    has_far: bool

    def usual_place(self, load: StripLoad) -> int | None:
        """Return where the indirect window of ``load`` is in the header window if X is 20.

        Returns:
            Offset in bytes; None if X is no header length or the header window does not cover it.
        """
        if self.window is None or not load.usual:
            return None
        strip = self.strips[load.strip]
        low, high = USUAL_LENGTH + strip.low, USUAL_LENGTH + strip.high
        return low - self.window.low if self.window.low <= low <= high <= self.window.high else None

    @property
    def calls_in_body(self) -> bool:
        """Whether the body calls a helper, which clobbers r0-r5."""
        return bool(self.strips) or self.has_far


class Reach(NamedTuple):
    """How far into a packet a filter reads (reach.py).

    Args:
        end: one past the last byte that can be read, MOST at most.
        beyond_headers: a load may read payload, which may be in fragments.
    """

    end: int
    beyond_headers: bool


NOTHING = Reach(0, beyond_headers=False)


class _Known(NamedTuple):
    """What holds on every path, for the current value of X.

    Args:
        filled: indexes of the indirect windows that are filled.
        proved: X + proved <= caplen.
        usual: X is four times the low nibble of a packet byte, an IPv4 header's length.
    """

    filled: frozenset[int]
    proved: int
    usual: bool


def plan_reads(flow: Flow) -> Reads:
    """Plan the packet loads of ``flow``."""
    constant = [i for i in flow.instructions() if i.kind in CONSTANT_LOADS]
    near = [i for i in constant if i.end <= WINDOW_LIMIT]
    strips = _group([i for i in flow.instructions() if i.kind is Kind.LOAD_INDIRECT])
    indirect = _plan_indirect(flow, strips)
    window = None
    if near:
        usual = (USUAL_LENGTH + strips[load.strip].high for load in indirect.values() if load.usual)
        ends = [*(i.end for i in near), *(end for end in usual if end <= WINDOW_LIMIT)]
        low, high = min(i.k for i in near), max(ends)
        window = Span(low, low + rounded(high - low))
    return Reads(window, strips, indirect, len(near) < len(constant))


def rounded(size: int) -> int:
    """Round ``size`` up to a multiple of GRAIN."""
    return -(-size // GRAIN) * GRAIN


def _group(loads: list[ClassicInstruction]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for load in sorted(set(loads), key=lambda i: (i.k, i.end)):
        if spans and load.end - spans[-1].low <= STRIP_LIMIT:
            spans[-1] = Span(spans[-1].low, max(spans[-1].high, load.end))
        else:
            spans.append(Span(load.k, load.end))
    return tuple(spans)


def _plan_indirect(flow: Flow, strips: tuple[Span, ...]) -> dict[int, StripLoad]:
    """Find which windows are filled and which bounds are proved on every path to each load.

    It is a forward must-analysis, as available expressions.
    """
    before = predecessors(flow.blocks)
    nothing = _Known(frozenset(), 0, usual=False)
    leaving: dict[int, _Known] = {}
    plan: dict[int, StripLoad] = {}
    changed = True
    while changed:
        changed = False
        for start, block in flow.blocks.items():
            # An unvisited predecessor is ignored, as if all held there; later rounds correct that.
            known = [leaving[p] for p in before[start] if p in leaving]
            if start == flow.entry:
                known = [nothing]
            if not known:
                continue
            after = _through(block, _meet(known), strips, plan)
            changed |= leaving.get(start) != after
            leaving[start] = after
    return plan


def _meet(known: list[_Known]) -> _Known:
    filled = frozenset.intersection(*(k.filled for k in known))
    return _Known(filled, min(k.proved for k in known), all(k.usual for k in known))


def _through(
    block: Block, known: _Known, strips: tuple[Span, ...], plan: dict[int, StripLoad]
) -> _Known:
    filled, proved, usual = known
    for position, instruction in zip(block.positions, block.instructions, strict=True):
        if instruction.kind is Kind.LOAD_INDIRECT:
            strip = next(n for n, span in enumerate(strips) if span.covers(instruction))
            must_check = instruction.end > proved
            plan[position] = StripLoad(strip, strip not in filled, must_check, usual)
            filled, proved = filled | {strip}, max(proved, instruction.end)
        elif instruction.kind is Kind.CHECK_INDIRECT:
            must_check = instruction.end > proved
            plan[position] = StripLoad(NO_STRIP, False, must_check, False)
            proved = max(proved, instruction.end)
        elif "X" in instruction.form.writes:
            filled, proved = frozenset(), 0
            usual = instruction.kind is Kind.LOAD_HEADER_LENGTH
    return _Known(filled, proved, usual)
