"""Names and addresses of the kernel's functions: /proc/kallsyms.

A line is ``address type name``, followed by a tab and ``[module]`` for modules. There are some
200,000 lines, so the part of vmlinux, where each has three words, is split in a few whole-file
operations; the rest, few lines that name a module, is matched by a regular expression.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_right
from collections import defaultdict
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Collection

KALLSYMS = Path("/proc/kallsyms")
# Symbol types of nm(1): code, global (T) or local (t), and weak (W, w).
_TEXT_TYPES = frozenset("tTwW")
_MODULE_LINE = re.compile(r"^([0-9a-f]{16}) [tTwW] (\S+)(?:[ \t]+\[([^\]]+)\])?", re.MULTILINE)


class SymbolOffset(NamedTuple):
    """The symbol that covers an address, and the address's offset from its start in bytes."""

    display: str
    offset: int


def display_name(name: str, module: str = "") -> str:
    """Return ``name``, or ``name[module]`` outside vmlinux, the format of pwru."""
    return f"{name}[{module}]" if module else name


class Symbols:
    """Text symbols, in the order of /proc/kallsyms. Immutable.

    Args:
        displays: ``name`` or ``name[module]`` of each.
        addresses: of each, ``array('Q')``.
    """

    def __init__(self, displays: list[str], addresses: array[int]) -> None:
        self.displays = displays
        self.values = addresses

    def __len__(self) -> int:
        return len(self.displays)

    def with_names(self, names: Collection[str]) -> Symbols:
        """Return the symbols of these names, of vmlinux and all modules."""
        selected = (each for each in self.displays if each.partition("[")[0] in names)
        return _filter_symbols(frozenset(selected), self.displays, self.values)

    @cached_property
    def by_name(self) -> dict[str, tuple[int, ...]]:
        """``name`` or ``name[module]`` -> all its addresses, in the order of /proc/kallsyms."""
        lists: defaultdict[str, list[int]] = defaultdict(list)
        for display, address in zip(self.displays, self.values, strict=True):
            lists[display].append(address)
        return {display: tuple(found) for display, found in lists.items()}

    @cached_property
    def by_address(self) -> dict[int, str]:
        """Address -> ``name`` or ``name[module]``; the last of several symbols at one address."""
        return dict(zip(self.values, self.displays, strict=True))

    @cached_property
    def _sorted_addresses(self) -> list[int]:
        return sorted(self.by_address)

    def addresses(self, name: str, module: str = "") -> tuple[int, ...]:
        """Return all addresses of ``name`` in ``module`` ('' for vmlinux); () if there is none."""
        return self.by_name.get(display_name(name, module), ())

    def select(self, displays: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return ``by_name`` restricted to these names, without computing it for all."""
        names = frozenset(displays)
        lists: defaultdict[str, list[int]] = defaultdict(list)
        for display, address in zip(self.displays, self.values, strict=True):
            if display in names:
                lists[display].append(address)
        return {display: tuple(found) for display, found in lists.items()}

    def nearest(self, address: int) -> SymbolOffset | None:
        """Return the last symbol at or before ``address``; None below the first symbol."""
        index = bisect_right(self._sorted_addresses, address)
        if not index:
            return None
        start = self._sorted_addresses[index - 1]
        return SymbolOffset(self.by_address[start], address - start)

    def next_symbol(self, address: int) -> str | None:
        """Return the first symbol above ``address``; None above the last symbol."""
        index = bisect_right(self._sorted_addresses, address)
        return (
            self.by_address[self._sorted_addresses[index]]
            if index < len(self._sorted_addresses)
            else None
        )


def parse_symbols(text: str, names: Collection[str] | None = None) -> Symbols:
    """Return the text symbols in the content of /proc/kallsyms.

    Args:
        text: the content.
        names: names to keep (``name`` or ``name[module]``); None keeps all.

    Raises:
        KernelError: every address is zero: the kernel hides them from this process.
    """
    core, tail = _split_core(text)
    words = core.split()
    if len(words) != 3 * core.count("\n"):
        core, tail, words = "", text, []
    is_text = [kind in _TEXT_TYPES for kind in words[1::3]]
    addresses = list(compress(words[0::3], is_text))
    displays = list(compress(words[2::3], is_text))
    for address, name, module in _MODULE_LINE.findall(tail):
        addresses.append(address)
        displays.append(display_name(name, module))
    values = _to_integers(addresses)
    if values and not any(values):
        raise KernelError(
            "cannot read symbol addresses: /proc/kallsyms shows only zeros",
            "run as root with CAP_SYSLOG, and `sysctl kernel.kptr_restrict=1`",
        )
    return (
        _filter_symbols(frozenset(names), displays, values)
        if names is not None
        else (Symbols(displays, values))
    )


def read_symbols(names: Collection[str] | None = None, path: Path | int = KALLSYMS) -> Symbols:
    """Return the text symbols of the running kernel.

    Args:
        names: as for parse_symbols().
        path: another file of that format; or an open descriptor of it, which stays open. The kernel
            shows or hides addresses by the capabilities of the process that opened it.

    Raises:
        KernelError: the file can't be read or hides the addresses.
    """
    return parse_symbols(_read_file(path), names)


def function_names(path: Path = KALLSYMS) -> frozenset[str]:
    """Return ``name`` or ``name[module]`` of the running kernel's functions.

    Unlike their addresses, names are visible to every process.

    Args:
        path: another file of that format.

    Raises:
        KernelError: the file can't be read.
    """
    found = _MODULE_LINE.findall(_read_file(path))
    return frozenset(display_name(name, module) for _, name, module in found)


def _read_file(path: Path | int) -> str:
    try:
        with open(path, "rb", buffering=0, closefd=isinstance(path, Path)) as file:
            return file.read().decode("latin-1")
    except OSError as error:
        raise KernelError(
            f"cannot read {path}: {error.strerror}",
            "pypwru needs a kernel with CONFIG_KALLSYMS and a mounted /proc",
        ) from error


def _split_core(text: str) -> tuple[str, str]:
    """Split at the first line that names a module; the kernel lists vmlinux first (s_show())."""
    tab = text.find("\t")
    if tab < 0:
        return text, ""
    start = text.rfind("\n", 0, tab) + 1
    return text[:start], text[start:]


def _to_integers(addresses: list[str]) -> array[int]:
    """Convert addresses of sixteen hexadecimal digits, all in one conversion."""
    values = array("Q")
    digits = "".join(addresses)
    if len(digits) != 16 * len(addresses):
        return array("Q", [int(address, 16) for address in addresses])
    values.frombytes(bytes.fromhex(digits))
    if sys.byteorder == "little":
        values.byteswap()
    return values


def _filter_symbols(names: frozenset[str], displays: list[str], values: array[int]) -> Symbols:
    keep = [display in names for display in displays]
    return Symbols(list(compress(displays, keep)), array("Q", compress(values, keep)))
