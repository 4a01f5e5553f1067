"""Names of kernel functions by an address in them, modules loaded during the trace included."""

from __future__ import annotations

import re
import time
from itertools import takewhile
from typing import TYPE_CHECKING

from pypwru.discovery.lifetime import DROPPING, DROPPING_FOR_OTHERS, TELLING
from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import read_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.kernel.kallsyms import Symbols

_RESCAN_SECONDS = 1.0
# Reading kallsyms takes some tenths of a second: the pause after it is this many times as long.
_SCAN_SHARE = 50
_KEPT = 1 << 16
_OWNER = re.compile(r"\[([^\]]+)\]$")
# Functions that contain the tracepoint kfree_skb, and generic callers of them: no drop locations.
_DROPPERS = DROPPING | TELLING | DROPPING_FOR_OTHERS
_BPF = "bpf"  # the owner of programs, trampolines and the like

# Frames on the stack between the traced function and the handler. A kprobe's stack is taken from
# the function's pt_regs and has none; fentry programs and raw tracepoints are called as functions.
_TRACER = re.compile(r"bpf_prog_[0-9a-f]{16}_trace_\w+\[bpf\]")
_CALLS_TRACER = re.compile(
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
        self._read_after = float("-inf")
        if read_now:
            self._read_all()

    def name(self, address: int) -> str:
        """Return ``name`` or ``name[module]``; ``0x...`` if no symbol is at or before it."""
        name = self._names.get(address)
        if name is None:
            new = self._may_be_new(address)
            late = self._monotonic() < self._read_after
            if new and not late:
                self._read_again()
            name = self._nearest(address)
            if not (new and late):  # otherwise not cached: a later call may read symbols again
                if len(self._names) >= _KEPT:
                    self._names.clear()
                self._names[address] = name
        return name

    def stack(self, frames: Sequence[int]) -> list[str]:
        """Return the names of a stack's functions, innermost first, from the traced function on.

        Args:
            frames: return addresses of the handler's stack, innermost first.
        """
        return [self.name(address) for address in self._beyond_tracer(frames)]

    def caller(self, frames: Sequence[int], hosted: bool) -> str:
        """Return the name of the traced function's caller; of a tracepoint, of the function that
        contains it.

        Args:
            frames: the return address of the probed function alone; or the stack of a handler that
                was called as a function (fentry, raw tracepoint), innermost first.
            hosted: the targets are tracepoints, not functions.
        """
        calling = self._callers(frames, hosted)
        return self.name(calling[0]) if calling else "0x0"

    def location(self, frames: Sequence[int], hosted: bool) -> str:
        """Return the code location of a drop, ``tcp_v4_rcv+0x9a1``; "" if unknown.

        Frames of functions that drop on behalf of their callers are skipped, as are the functions
        that contain the tracepoint. A kprobe without a stack has one frame, which is taken as it
        is.

        Args:
            frames: as of ``caller``.
            hosted: as of ``caller``.
        """
        frames = self._beyond_tracer(frames) if hosted else self._callers(frames, hosted)
        dropping = takewhile(lambda one: self.name(one) in _DROPPERS, frames)
        frames = frames[sum(1 for _ in dropping) :] or frames
        address = next(iter(frames), 0)
        if not address:
            return ""
        name = self.name(address)
        nearest = self._symbols.nearest(address) if self._symbols else None
        return f"{name}+{nearest.offset:#x}" if nearest else name

    def _callers(self, frames: Sequence[int], hosted: bool) -> Sequence[int]:
        """Return the frames from the one in the function that ``caller`` names on."""
        if len(frames) == 1:
            return frames
        rest = self._beyond_tracer(frames)
        # Beside tracepoints, BPF programs can be targets: an fentry handler's first frame is then
        # the traced program, not its caller.
        own = not hosted or any(self.name(address).endswith("[bpf]") for address in rest[:1])
        return rest[own:]

    def _beyond_tracer(self, frames: Sequence[int]) -> Sequence[int]:
        """Return the frames from the traced function on."""
        names = [self.name(address) for address in frames]
        first = 0
        if names and _TRACER.fullmatch(names[0]):
            # Linux 5.10 has the frame of the handler that reads the stack twice.
            while first < len(names) and (
                names[first] == names[0] or _CALLS_TRACER.fullmatch(names[first])
            ):
                first += 1
        return frames[first:]

    def _nearest(self, address: int) -> str:
        nearest = self._symbols.nearest(address) if self._symbols else None
        return nearest.display if nearest else f"{address:#x}"

    def _may_be_new(self, address: int) -> bool:
        nearest = self._symbols.nearest(address) if self._symbols else None
        behind = self._symbols.after(address) if self._symbols else None
        if nearest is None or behind is None:
            return True
        owner = _owner(nearest.display)
        return owner == _BPF or owner != _owner(behind)

    def _read_again(self) -> None:
        try:
            self._read_all()
        except KernelError:  # readable at the start, but not now: keep those symbols
            self._read_after = self._monotonic() + _RESCAN_SECONDS

    def _read_all(self) -> None:
        begin = self._monotonic()
        self._symbols = self._read()
        self._names = {address: self._nearest(address) for address in self._names}
        after = self._monotonic()
        self._read_after = after + max(_RESCAN_SECONDS, _SCAN_SHARE * (after - begin))


def _owner(display: str) -> str:
    """Return the module of ``name[module]``; "" for vmlinux."""
    match = _OWNER.search(display)
    return match[1] if match else ""
