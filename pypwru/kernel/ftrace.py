"""What this kernel lets ftrace, hence kprobe and kprobe-multi, hook: available_filter_functions.

The kernel writes one line a function: ``name`` for vmlinux, ``name [module]`` for modules, once for
each function of that name. Since Linux 6.5 available_filter_functions_addrs puts the address of the
hook before each line, which tells functions of one name apart.
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

MOUNTED = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_INSTEAD = "or trace without kprobes: --backend tracepoint"


class Traceable:
    """The functions that ftrace can hook.

    Args:
        lines: of available_filter_functions.
        call_sites: the hook's address for each line (same order), or None before Linux 6.5.
    """

    def __init__(self, lines: list[str], call_sites: list[str] | None = None) -> None:
        self.lines = lines
        self._known = frozenset(lines)
        self._call_sites = call_sites

    def named(self, names: Collection[str]) -> Traceable:
        """What of it are functions of these names, in whichever module, without call sites."""
        return Traceable([line for line in self.lines if line.partition(" [")[0] in names])

    def __contains__(self, function: tuple[str, str]) -> bool:
        """Whether ``(name, module)`` can be hooked; the module is '' for vmlinux."""
        return self._line(*function) in self._known

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for line in self._known:
            name, _, module = line.partition(" [")
            yield name, module.removesuffix("]")

    @staticmethod
    def _line(name: str, module: str) -> str:
        return f"{name} [{module}]" if module else name

    @cached_property
    def variants(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """``(name, module)`` -> the names that the compiler made of it, as ``name.isra.0``."""
        made: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for line in sorted(line for line in self._known if "." in line):
            full, _, module = line.partition(" [")
            made[full.partition(".")[0], module.removesuffix("]")].append(full)
        return {function: tuple(names) for function, names in made.items()}

    def call_sites(
        self, functions: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[int, ...]] | None:
        """Where each of ``functions`` is hooked, or None where this kernel doesn't say.

        A hook lies a few bytes behind the function's address when an ENDBR or BTI instruction
        comes first.
        """
        if self._call_sites is None:
            return None
        wanted = {self._line(*function): function for function in functions}
        found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for line, address in zip(self.lines, self._call_sites, strict=True):
            if line in wanted:
                found[wanted[line]].append(int(address, 16))
        return {function: tuple(addresses) for function, addresses in found.items()}


def parse_traceable(text: str) -> Traceable:
    """Read available_filter_functions.

    Args:
        text: the content of that file.
    """
    return Traceable(text.splitlines())


def parse_traceable_addresses(text: str) -> Traceable:
    """Read available_filter_functions_addrs.

    Args:
        text: the content of that file: hexadecimal address, a space, and the line as above.
    """
    rows = [line.split(" ", 1) for line in text.splitlines()]
    return Traceable([row[1] for row in rows], [row[0] for row in rows])


def traceable_functions() -> Traceable:
    """What this kernel can hook, with addresses where it gives them.

    Raises:
        KernelError: it can't be read; the message names the cause (lockdown, rights, no ftrace).
    """
    try:
        return parse_traceable_addresses(_read("available_filter_functions_addrs"))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _explain(error) from error
    try:
        return parse_traceable(_read("available_filter_functions"))
    except OSError as error:
        raise _explain(error) from error


def _read(name: str) -> str:
    return pseudofs.read_file("tracefs", name, MOUNTED).decode("ascii", "replace")


def _explain(error: OSError) -> KernelError:
    what = "cannot read available_filter_functions of tracefs"
    if error.errno in (errno.ENOENT, errno.ENODEV):
        return KernelError(
            f"{what}: this kernel has no dynamic ftrace (CONFIG_DYNAMIC_FTRACE), so no function "
            f"can be hooked; boot a kernel that has it, {_INSTEAD}"
        )
    if error.errno == errno.ENOSYS:
        return KernelError(
            f"{what}: it is not mounted; run `mount -t tracefs tracefs /sys/kernel/tracing`"
        )
    found = lockdown_level()
    if error.errno == errno.EPERM and found not in (Lockdown.NONE, Lockdown.UNKNOWN):
        return KernelError(
            f"{what}: refused by kernel lockdown ({found.value}); boot with lockdown=none "
            f"(Secure Boot off), {_INSTEAD}"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return KernelError(f"{what}: {error.strerror}; run as root (sudo pypwru), {_INSTEAD}")
    return KernelError(
        f"{what}: {error.strerror}; see whether `cat {MOUNTED[0]}/available_filter_functions` "
        f"works, {_INSTEAD}"
    )
