"""Names of kernel functions by an address in them, modules loaded during the trace included."""

from __future__ import annotations

import re
import time
from itertools import takewhile
from typing import TYPE_CHECKING

from pypwru.discovery.handlers import HANDLERS
from pypwru.discovery.skb_lifetime import DROP_TARGETS, DROP_WRAPPERS, OUTCOME_TARGETS
from pypwru.errors import KernelError
from pypwru.kernel.bpf import MAX_OBJECT_NAME
from pypwru.kernel.kallsyms import read_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.kernel.kallsyms import Symbols

_RESCAN_SECONDS = 1.0
# Reading kallsyms takes some tenths of a second: the pause after it is this many times as long.
_READ_PAUSE_FACTOR = 50
_MAX_CACHED = 1 << 16
_MODULE_SUFFIX = re.compile(r"\[([^\]]+)\]$")
# Functions that contain the tracepoint kfree_skb, and generic callers of them: no drop locations.
_GENERIC_DROP_FUNCTIONS = DROP_TARGETS | OUTCOME_TARGETS | DROP_WRAPPERS
_BPF_MODULE = "bpf"  # the owner of programs, trampolines and the like

# Frames on the stack between the traced function and the handler. A kprobe's stack is taken from
# the function's pt_regs and has none; fentry programs and raw tracepoints are called as functions.
_HANDLER_NAMES = "|".join(
    name[:MAX_OBJECT_NAME] for name, row in HANDLERS.items() if row.writes_event
)
_HANDLER_FRAME = re.compile(rf"bpf_prog_[0-9a-f]{{16}}_({_HANDLER_NAMES})\[bpf\]")
_HANDLER_CALLER_FRAME = re.compile(
    r"bpf_trampoline_\w+\[bpf\]|bpf_trace_run\d+|__bpf_trace_\w+|__traceiter_\w+"
    r"|bpf_dispatcher_\w+(\[bpf\])?"
)


class SymbolNames:
    """Names of functions by an address in them: the last symbol at or before it, as in pwru.

    The symbols are read again, at most once a second, for an address that may belong to a module or
    BPF program loaded later: one that isn't between two symbols of vmlinux or of one module.

    Args:
        read_now: read the symbols at once, not at the first look-up.
        read: returns the symbols of the kernel.
        monotonic: clock in seconds.

    Raises:
        KernelError: ``read_now`` is set and the symbols can't be read.
    """

    def __init__(
        self,
        read_now: bool,
        read: Callable[[], Symbols] = read_symbols,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._symbols: Symbols | None = None
        self._names: dict[int, str] = {}
        self._next_read = float("-inf")
        if read_now:
            self._read_all()

    def name(self, address: int) -> str:
        """Return ``name`` or ``name[module]``; ``0x...`` if no symbol is at or before it."""
        name = self._names.get(address)
        if name is None:
            may_be_new = self._may_be_new(address)
            is_too_soon = self._monotonic() < self._next_read
            if may_be_new and not is_too_soon:
                self._read_again()
            name = self._nearest_name(address)
            if not (
                may_be_new and is_too_soon
            ):  # otherwise not cached: a later call may read symbols again
                if len(self._names) >= _MAX_CACHED:
                    self._names.clear()
                self._names[address] = name
        return name

    def stack(self, frames: Sequence[int]) -> list[str]:
        """Return the names of a stack's functions, innermost first, from the traced function on.

        Args:
            frames: return addresses of the handler's stack, innermost first.
        """
        return [self.name(address) for address in self._strip_tracer_frames(frames)]

    def caller(self, frames: Sequence[int], is_tracepoint: bool) -> str:
        """Return the name of the traced function's caller.

        For a tracepoint, it is the function that contains it.

        Args:
            frames: the return address of the probed function alone; or the stack of a handler that
                was called as a function (fentry, raw tracepoint), innermost first.
            is_tracepoint: the targets are tracepoints, not functions.
        """
        callers = self._caller_frames(frames, is_tracepoint)
        return self.name(callers[0]) if callers else "0x0"

    def location(self, frames: Sequence[int], is_tracepoint: bool) -> str:
        """Return the code location of a drop, ``tcp_v4_rcv+0x9a1``; "" if unknown.

        Frames of functions that drop on behalf of their callers are skipped, as are the functions
        that contain the tracepoint. A kprobe without a stack has one frame, which is taken as it
        is.

        Args:
            frames: as of ``caller``.
            is_tracepoint: as of ``caller``.
        """
        frames = (
            self._strip_tracer_frames(frames)
            if is_tracepoint
            else self._caller_frames(frames, is_tracepoint)
        )
        generic = takewhile(lambda frame: self.name(frame) in _GENERIC_DROP_FUNCTIONS, frames)
        frames = frames[sum(1 for _ in generic) :] or frames
        address = next(iter(frames), 0)
        if not address:
            return ""
        name = self.name(address)
        nearest = self._symbols.nearest(address) if self._symbols else None
        return f"{name}+{nearest.offset:#x}" if nearest else name

    def _caller_frames(self, frames: Sequence[int], is_tracepoint: bool) -> Sequence[int]:
        """Return the frames from the one in the function that ``caller`` names on."""
        if len(frames) == 1:
            return frames
        rest = self._strip_tracer_frames(frames)
        # Beside tracepoints, BPF programs can be targets: an fentry handler's first frame is then
        # the traced program, not its caller.
        skips_first = not is_tracepoint or any(
            self.name(address).endswith("[bpf]") for address in rest[:1]
        )
        return rest[skips_first:]

    def _strip_tracer_frames(self, frames: Sequence[int]) -> Sequence[int]:
        """Return the frames from the traced function on."""
        names = [self.name(address) for address in frames]
        first = 0
        if names and _HANDLER_FRAME.fullmatch(names[0]):
            # Linux 5.10 has the frame of the handler that reads the stack twice.
            while first < len(names) and (
                names[first] == names[0] or _HANDLER_CALLER_FRAME.fullmatch(names[first])
            ):
                first += 1
        return frames[first:]

    def _nearest_name(self, address: int) -> str:
        nearest = self._symbols.nearest(address) if self._symbols else None
        return nearest.display if nearest else f"{address:#x}"

    def _may_be_new(self, address: int) -> bool:
        nearest = self._symbols.nearest(address) if self._symbols else None
        following = self._symbols.next_symbol(address) if self._symbols else None
        if nearest is None or following is None:
            return True
        owner = _module_of(nearest.display)
        return owner == _BPF_MODULE or owner != _module_of(following)

    def _read_again(self) -> None:
        try:
            self._read_all()
        except KernelError:  # readable at the start, but not now: keep those symbols
            self._next_read = self._monotonic() + _RESCAN_SECONDS

    def _read_all(self) -> None:
        begin = self._monotonic()
        self._symbols = self._read()
        self._names = {address: self._nearest_name(address) for address in self._names}
        after = self._monotonic()
        self._next_read = after + max(_RESCAN_SECONDS, _READ_PAUSE_FACTOR * (after - begin))


def _module_of(display: str) -> str:
    """Return the module of ``name[module]``; "" for vmlinux."""
    match = _MODULE_SUFFIX.search(display)
    return match[1] if match else ""
