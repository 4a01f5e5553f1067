"""Pass 5: planning of packet loads.

Packet data is copied to the stack by bpf_probe_read_kernel(), in as few calls as possible:

- the *header window*: all loads at a constant offset with an end of at most MAX_HEADER_WINDOW are
served
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

from pypwru.asm.cbpf import ClassicInstruction, InstructionKind
from pypwru.filter.cfg import CFG, Block, predecessors
from pypwru.filter.guards import CONSTANT_LOADS

MAX_HEADER_WINDOW = 128
"""Loads at a constant offset that end after this byte are not in the header window."""
MAX_INDIRECT_WINDOW = 16
"""Largest size of an indirect window, in bytes."""
WINDOW_ALIGN = 8
"""The size of the header window is a multiple of this, in bytes: copy_from_kernel_nofault() copies
eight bytes at a time."""

MAX_REACH = 16384
"""Bytes from the start of a packet that a filter can read if some are in fragments:
LINEAR_COPY_SIZE of bpf/match/fragments.h."""

NO_WINDOW = -1
IPV4_MIN_HEADER = 20
"""Length of an IPv4 header without options (IHL 5), in bytes."""


class Window(NamedTuple):
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


class IndirectLoad(NamedTuple):
    """A load at X + k, or the bounds check of one.

    Args:
        window: index of its indirect window; NO_WINDOW for a check.
        must_call: the window may not be filled for this X.
        must_check: X + k + size <= caplen is not proved yet.
        assume_ihl_5: X is the length of an IPv4 header, so probably 20.
    """

    window: int
    must_call: bool
    must_check: bool
    assume_ihl_5: bool


class PacketLoads(NamedTuple):
    """How the packet loads of a filter are done.

    Args:
        header_window: the header window; None without loads at a small constant offset.
        indirect_windows: the indirect windows.
        indirect_loads: program position -> load at X + k.
        has_far_loads: a load has a constant offset beyond MAX_HEADER_WINDOW and is read by itself.
    """

    header_window: Window | None
    indirect_windows: tuple[Window, ...]
    indirect_loads: dict[int, IndirectLoad]
    has_far_loads: bool

    def ihl_5_offset(self, load: IndirectLoad) -> int | None:
        """Return where the indirect window of ``load`` is in the header window if X is 20.

        Returns:
            Offset in bytes; None if X is no header length or the header window does not cover it.
        """
        if self.header_window is None or not load.assume_ihl_5:
            return None
        window = self.indirect_windows[load.window]
        low, high = IPV4_MIN_HEADER + window.low, IPV4_MIN_HEADER + window.high
        return (
            low - self.header_window.low
            if self.header_window.low <= low <= high <= self.header_window.high
            else None
        )

    @property
    def has_calls_in_body(self) -> bool:
        """Whether the body calls a helper, which clobbers r0-r5."""
        return bool(self.indirect_windows) or self.has_far_loads


class Reach(NamedTuple):
    """How far into a packet a filter reads (reach.py).

    Args:
        end: one past the last byte that can be read, MOST at most.
        may_read_payload: a load may read payload, which may be in fragments.
    """

    end: int
    may_read_payload: bool


NO_REACH = Reach(0, may_read_payload=False)


class _XState(NamedTuple):
    """What holds on every path, for the current value of X.

    Args:
        filled_windows: indexes of the indirect windows that are filled.
        proved_end: X + proved <= caplen.
        is_ihl: X is four times the low nibble of a packet byte, an IPv4 header's length.
    """

    filled_windows: frozenset[int]
    proved_end: int
    is_ihl: bool


def plan_loads(cfg: CFG) -> PacketLoads:
    """Plan the packet loads of ``cfg``."""
    constant = [i for i in cfg.instructions() if i.kind in CONSTANT_LOADS]
    near_loads = [i for i in constant if i.end <= MAX_HEADER_WINDOW]
    indirect_windows = _group_loads(
        [i for i in cfg.instructions() if i.kind is InstructionKind.LOAD_INDIRECT]
    )
    indirect_loads = _plan_indirect_loads(cfg, indirect_windows)
    header_window = None
    if near_loads:
        ihl_5_ends = (
            IPV4_MIN_HEADER + indirect_windows[load.window].high
            for load in indirect_loads.values()
            if load.assume_ihl_5
        )
        ends = [
            *(i.end for i in near_loads),
            *(end for end in ihl_5_ends if end <= MAX_HEADER_WINDOW),
        ]
        low, high = min(i.k for i in near_loads), max(ends)
        header_window = Window(low, low + round_up(high - low))
    return PacketLoads(
        header_window, indirect_windows, indirect_loads, len(near_loads) < len(constant)
    )


def round_up(size: int) -> int:
    """Round ``size`` up to a multiple of GRAIN."""
    return -(-size // WINDOW_ALIGN) * WINDOW_ALIGN


def _group_loads(loads: list[ClassicInstruction]) -> tuple[Window, ...]:
    windows: list[Window] = []
    for load in sorted(set(loads), key=lambda i: (i.k, i.end)):
        if windows and load.end - windows[-1].low <= MAX_INDIRECT_WINDOW:
            windows[-1] = Window(windows[-1].low, max(windows[-1].high, load.end))
        else:
            windows.append(Window(load.k, load.end))
    return tuple(windows)


def _plan_indirect_loads(cfg: CFG, windows: tuple[Window, ...]) -> dict[int, IndirectLoad]:
    """Find which windows are filled and which bounds are proved on every path to each load.

    It is a forward must-analysis, as available expressions.
    """
    preds = predecessors(cfg.blocks)
    entry_state = _XState(frozenset(), 0, is_ihl=False)
    exit_states: dict[int, _XState] = {}
    plan: dict[int, IndirectLoad] = {}
    changed = True
    while changed:
        changed = False
        for start, block in cfg.blocks.items():
            # An unvisited predecessor is ignored, as if all held there; later rounds correct that.
            states = [exit_states[p] for p in preds[start] if p in exit_states]
            if start == cfg.entry:
                states = [entry_state]
            if not states:
                continue
            exit_state = _transfer(block, _meet(states), windows, plan)
            changed |= exit_states.get(start) != exit_state
            exit_states[start] = exit_state
    return plan


def _meet(states: list[_XState]) -> _XState:
    filled_windows = frozenset.intersection(*(k.filled_windows for k in states))
    return _XState(filled_windows, min(k.proved_end for k in states), all(k.is_ihl for k in states))


def _transfer(
    block: Block, state: _XState, windows: tuple[Window, ...], plan: dict[int, IndirectLoad]
) -> _XState:
    filled_windows, proved_end, is_ihl = state
    for position, instruction in zip(block.positions, block.instructions, strict=True):
        if instruction.kind is InstructionKind.LOAD_INDIRECT:
            index = next(n for n, window in enumerate(windows) if window.covers(instruction))
            must_check = instruction.end > proved_end
            plan[position] = IndirectLoad(index, index not in filled_windows, must_check, is_ihl)
            filled_windows, proved_end = filled_windows | {index}, max(proved_end, instruction.end)
        elif instruction.kind is InstructionKind.CHECK_INDIRECT:
            must_check = instruction.end > proved_end
            plan[position] = IndirectLoad(NO_WINDOW, False, must_check, False)
            proved_end = max(proved_end, instruction.end)
        elif "X" in instruction.opcode.writes:
            filled_windows, proved_end = frozenset(), 0
            is_ihl = instruction.kind is InstructionKind.LOAD_HEADER_LENGTH
    return _XState(filled_windows, proved_end, is_ihl)
