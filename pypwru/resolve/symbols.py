"""Address in a function to the function's name, also of what is loaded during the trace."""

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
# Reading takes up to some tenths of a second: it may take one part in so many of our time.
_SCAN_SHARE = 50
_KEPT = 1 << 16
_OWNER = re.compile(r"\[([^\]]+)\]$")
# In which the tracepoint kfree_skb is, and what calls these; some call each other.
_DROPPERS = DROPPING | TELLING | DROPPING_FOR_OTHERS
_BPF = "bpf"  # the owner of programs, trampolines and the like

# What is on the stack between a traced function and us. A kprobe's stack is that of the function's
# registers, and has none of it; tracing programs and raw tracepoints are called like functions.
_TRACER = re.compile(r"bpf_prog_[0-9a-f]{16}_trace_\w+\[bpf\]")
_CALLS_TRACER = re.compile(
    r"bpf_trampoline_\w+\[bpf\]|bpf_trace_run\d+|__bpf_trace_\w+|__traceiter_\w+"
    r"|bpf_dispatcher_\w+(\[bpf\])?"
)


class SymbolNames:
    """Names of functions by an address in them: the last symbol at or before it, as pwru has it.

    The symbols are read again, once a second at most, for an address that may belong to a module or
    BPF program that came later: one that isn't between two symbols of the core, or of one module.

    Args:
        read_now: at once, rather than at the first look-up.
        read: the kernel's symbols.
        monotonic: seconds.

    Raises:
        KernelError: they can't be read now.
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
        """``name`` or ``name[module]``; the number where nothing is at or before it."""
        name = self._names.get(address)
        if name is None:
            new = self._may_be_new(address)
            late = self._monotonic() < self._read_after
            if new and not late:
                self._read_again()
            name = self._nearest(address)
            if not (new and late):  # else it is looked for again
                if len(self._names) >= _KEPT:
                    self._names.clear()
                self._names[address] = name
        return name

    def stack(self, frames: Sequence[int]) -> list[str]:
        """Names of return addresses, innermost first, from the traced function on.

        Args:
            frames: of the handler's stack.
        """
        return [self.name(address) for address in self._beyond_tracer(frames)]

    def caller(self, frames: Sequence[int], hosted: bool) -> str:
        """The function that called the traced one; of a tracepoint the one that it is in.

        Args:
            frames: where a probed function returns to, alone; else the stack of a handler that was
                called like a function.
            hosted: whether tracepoints are traced, not functions.
        """
        calling = self._callers(frames, hosted)
        return self.name(calling[0]) if calling else "0x0"

    def location(self, frames: Sequence[int], hosted: bool) -> str:
        """From where a packet is dropped: ``tcp_v4_rcv+0x9a1``; empty where it isn't known.

        A tracepoint is in the function that drops, which tells nothing: it is who called that. Nor
        does one that drops for whoever calls it; of a kprobe without a stack there is no more.
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
        """Return addresses, from the one in the function that ``caller`` names on."""
        if len(frames) == 1:
            return frames
        rest = self._beyond_tracer(frames)
        # A tracing program is called by what it traces, which no tracepoint is in: BPF programs.
        own = not hosted or any(self.name(address).endswith("[bpf]") for address in rest[:1])
        return rest[own:]

    def _beyond_tracer(self, frames: Sequence[int]) -> Sequence[int]:
        """Return addresses, from the traced function on."""
        names = [self.name(address) for address in frames]
        first = 0
        if names and _TRACER.fullmatch(names[0]):
            # Linux 5.10 puts the program that asks on its stack twice.
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
        except KernelError:  # it was readable at the start: what was known then must do
            self._read_after = self._monotonic() + _RESCAN_SECONDS

    def _read_all(self) -> None:
        begin = self._monotonic()
        self._symbols = self._read()
        self._names = {address: self._nearest(address) for address in self._names}
        after = self._monotonic()
        self._read_after = after + max(_RESCAN_SECONDS, _SCAN_SHARE * (after - begin))


def _owner(display: str) -> str:
    """The module of ``name[module]``; empty for the core."""
    match = _OWNER.search(display)
    return match[1] if match else ""
