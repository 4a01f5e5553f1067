"""Functions that ftrace, and so kprobe and kprobe-multi, can hook: available_filter_functions.

The kernel writes one line per function: ``name`` for vmlinux, ``name [module]`` for modules, as
often as there are functions of that name. Since Linux 6.5 available_filter_functions_addrs has the
address of the ftrace call site before each line, which distinguishes functions of the same name.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

from pypwru.errors import KernelError
from pypwru.kernel import pseudofs
from pypwru.kernel.lockdown import Lockdown
from pypwru.kernel.lockdown import level as lockdown_level

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MOUNT_POINTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_OTHER_BACKEND_HINT = "or trace without kprobes: --backend tracepoint"


class TraceableFunctions:
    """Set of the functions that ftrace can hook, as ``(name, module)``; module '' is vmlinux.

    Args:
        lines: of available_filter_functions.
        call_sites: hexadecimal address of the ftrace call site of each line (same order), or None
            before Linux 6.5.
    """

    def __init__(self, lines: list[str], call_sites: list[str] | None = None) -> None:
        self.lines = lines
        self._line_set = frozenset(lines)
        self._call_sites = call_sites

    def with_names(self, names: Collection[str]) -> TraceableFunctions:
        """Return the functions of these names, of vmlinux and all modules, without call sites."""
        return TraceableFunctions([line for line in self.lines if line.partition(" [")[0] in names])

    def __contains__(self, function: tuple[str, str]) -> bool:
        """Return whether ``(name, module)`` can be hooked; the module is '' for vmlinux."""
        return self._line(*function) in self._line_set

    def __len__(self) -> int:
        return len(self._line_set)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for line in self._line_set:
            name, _, module = line.partition(" [")
            yield name, module.removesuffix("]")

    @staticmethod
    def _line(name: str, module: str) -> str:
        return f"{name} [{module}]" if module else name

    @cached_property
    def variants(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """``(name, module)`` -> names of the clones by the compiler, e.g. ``name.isra.0``."""
        clones: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for line in sorted(line for line in self._line_set if "." in line):
            full, _, module = line.partition(" [")
            clones[full.partition(".")[0], module.removesuffix("]")].append(full)
        return {function: tuple(names) for function, names in clones.items()}

    def call_sites(
        self, functions: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[int, ...]] | None:
        """Return the addresses of the ftrace call sites of ``functions``; None before Linux 6.5.

        A call site is a few bytes after the function's address if an ENDBR or BTI instruction comes
        first. Functions that can't be hooked are left out.
        """
        if self._call_sites is None:
            return None
        by_line = {self._line(*function): function for function in functions}
        found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for line, address in zip(self.lines, self._call_sites, strict=True):
            if line in by_line:
                found[by_line[line]].append(int(address, 16))
        return {function: tuple(addresses) for function, addresses in found.items()}


def parse_traceable(text: str) -> TraceableFunctions:
    """Parse ``text``, the content of available_filter_functions."""
    return TraceableFunctions(text.splitlines())


def parse_traceable_addresses(text: str) -> TraceableFunctions:
    """Parse the content of available_filter_functions_addrs.

    Args:
        text: per line a hexadecimal address, a space, and a line of available_filter_functions.
    """
    rows = [line.split(" ", 1) for line in text.splitlines()]
    return TraceableFunctions([row[1] for row in rows], [row[0] for row in rows])


def traceable_functions() -> TraceableFunctions:
    """Return the functions that this kernel can hook, with call sites since Linux 6.5.

    Raises:
        KernelError: the file can't be read; the message names the cause (lockdown, missing
            capability, no ftrace).
    """
    try:
        return parse_traceable_addresses(_read("available_filter_functions_addrs"))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _read_error(error) from error
    try:
        return parse_traceable(_read("available_filter_functions"))
    except OSError as error:
        raise _read_error(error) from error


def _read(name: str) -> str:
    return pseudofs.read_file("tracefs", name, MOUNT_POINTS).decode("ascii", "replace")


def _read_error(error: OSError) -> KernelError:
    failure = "cannot read available_filter_functions of tracefs"
    if error.errno in (errno.ENOENT, errno.ENODEV):
        return KernelError(
            f"{failure}: this kernel has no dynamic ftrace (CONFIG_DYNAMIC_FTRACE), so no function "
            "can be hooked",
            f"boot a kernel that has it, {_OTHER_BACKEND_HINT}",
        )
    if error.errno == errno.ENOSYS:
        return KernelError(
            f"{failure}: it is not mounted",
            "run `mount -t tracefs tracefs /sys/kernel/tracing`",
        )
    level = lockdown_level()
    if error.errno == errno.EPERM and level not in (Lockdown.NONE, Lockdown.UNKNOWN):
        return KernelError(
            f"{failure}: refused by kernel lockdown ({level.value})",
            f"boot with lockdown=none (Secure Boot off), {_OTHER_BACKEND_HINT}",
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return KernelError(
            f"{failure}: {error.strerror}", f"run as root (sudo pypwru), {_OTHER_BACKEND_HINT}"
        )
    return KernelError(
        f"{failure}: {error.strerror}",
        f"see whether `cat {MOUNT_POINTS[0]}/available_filter_functions` works, "
        f"{_OTHER_BACKEND_HINT}",
    )
