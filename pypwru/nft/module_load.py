"""Build the handlers of a verdict source that appeared during the run, in a child process.

Reading symbols, parsing types and compiling take half a second of CPU time natively; this process
keeps draining the ring meanwhile, which a flood would fill otherwise.
"""

from __future__ import annotations

import fcntl
import os
from array import array
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.child import Child
from pypwru.errors import KernelError, remedy
from pypwru.fds import closing_fd
from pypwru.kernel.kallsyms import KALLSYMS, Symbols, read_symbols
from pypwru.nft.verdict_sources import VERDICT_SOURCES, VerdictSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.cache import Cache
    from pypwru.program.build import Bytecode

_SOURCES = (*VERDICT_SOURCES, *(one.fallback[0] for one in VERDICT_SOURCES if one.fallback))
_CHILD_NICE = 5  # a third of the drain's weight, when both compete for a CPU
_MIN_FD = 3


class BuiltHandlers(NamedTuple):
    """What the child built.

    Args:
        symbols: kallsyms of the functions to hook.
        bytecode: of the handlers.
    """

    symbols: Symbols
    bytecode: Bytecode


class HandlerBuild:
    """A child process that builds the handlers of a verdict source.

    Args:
        source: one of ``VERDICT_SOURCES``, or the fallback of one.
        defines: macros of the handlers, name -> text.
        cache: the child stores the bytecode there, too.
        keep: gets name and text of each file of --debug; None without.
        kernel_btf: file of --kernel-btf; None for the running kernel's BTF.
        has_conntrack: whether handlers read conntrack's structs.

    Raises:
        ChildError: no child can be started.
        KernelError: /proc/kallsyms can't be opened.
    """

    def __init__(
        self,
        source: VerdictSource,
        defines: Mapping[str, str],
        cache: Cache,
        keep: Callable[[str, str], object] | None = None,
        *,
        kernel_btf: Path | None,
        has_conntrack: bool,
    ) -> None:
        self._keep = keep
        with _open_kallsyms() as fd:
            self._child = Child(
                f"{__name__}:make",
                _SOURCES.index(source),
                fd,
                str(kernel_btf or ""),
                str(cache.folder or ""),
                defines,
                has_conntrack,
                keep is not None,
                descriptors=[fd],
                nice=_CHILD_NICE,
            )

    def is_done(self) -> bool:
        """Return whether the child is done, so that ``result`` won't block."""
        return self._child.is_done()

    def result(self) -> BuiltHandlers | None:
        """Wait for the child, and return what to attach; None if the functions don't exist.

        Raises:
            PypwruError: any error of ``make``, or ChildError if the child itself failed.
        """
        found = self._child.result()
        if found is None:
            return None
        names, addresses, code, files = found
        if self._keep is not None:
            for name, text in files.items():
                self._keep(name, text)
        bytecode = {name: bytes.fromhex(text) for name, text in code.items()}
        return BuiltHandlers(Symbols(names, array("Q", addresses)), bytecode)

    def close(self) -> None:
        """Kill the child if it still runs."""
        self._child.close()


@contextmanager
def _open_kallsyms() -> Iterator[int]:
    """Yield a descriptor of KALLSYMS that is above those of the standard streams.

    Whether addresses are readable is decided at open (kernel/kallsyms.c:kallsyms_open()): by the
    privileges of this process, whatever the child's are.
    """
    try:
        with closing_fd(os.open(KALLSYMS, os.O_RDONLY | os.O_CLOEXEC)) as original_fd:
            fd = fcntl.fcntl(original_fd, fcntl.F_DUPFD_CLOEXEC, _MIN_FD)
    except OSError as error:
        advice = remedy(error, "is /proc mounted?")
        raise KernelError(f"cannot read {KALLSYMS}: {error.strerror}", advice) from error
    with closing_fd(fd):
        yield fd


def make(
    source_index: int,
    kallsyms: int,
    kernel_btf: str,
    folder: str,
    defines: Mapping[str, str],
    has_conntrack: bool,
    keeps_files: bool,
) -> tuple[Sequence[str], Sequence[int], Mapping[str, str], Mapping[str, str]] | None:
    """Build the handlers of a verdict source; runs in the child.

    Args:
        source_index: index of the source in ``_SOURCES``.
        kallsyms: descriptor of KALLSYMS.
        kernel_btf: path of --kernel-btf; empty for none.
        folder: of the cache; empty for none.
        defines: macros of the handlers, name -> text.
        has_conntrack: whether handlers read conntrack's structs.
        keeps_files: whether to return the files of --debug.

    Returns:
        Names and addresses of symbols, handler -> its bytecode in hex, and name -> text of the
        files of --debug; None if the functions of the source don't exist.

    Raises:
        BuildError: as of ``build``.
        BTFError: types can't be read.
        KernelError: symbols can't be read.
    """
    from pypwru.btf.load import load_vmlinux
    from pypwru.cache import Cache
    from pypwru.nft.build import build_unit
    from pypwru.program.compiler import compile_handlers
    from pypwru.program.conntrack_types import conntrack_types

    source = _SOURCES[source_index]
    symbols = read_symbols(source.symbols, kallsyms)
    functions = source.find_functions(symbols)
    if not functions:
        return None
    cache = Cache(Path(folder) if folder else None)
    btf = load_vmlinux(Path(kernel_btf) if kernel_btf else None, cache)
    extra_types = [conntrack_types(btf)] if has_conntrack else []
    files: dict[str, str] = {}
    keep = files.__setitem__ if keeps_files else None
    bytecode = build_unit(
        btf, defines, cache, extra_types, source.unit, functions[0], compile_handlers, keep
    )
    code = {name: data.hex() for name, data in bytecode.items()}
    return symbols.displays, list(symbols.values), code, files
