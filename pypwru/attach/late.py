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

from pypwru.attach.judges import JUDGES, Judge
from pypwru.child import Child
from pypwru.errors import KernelError, cure
from pypwru.kernel.descriptors import owned
from pypwru.kernel.kallsyms import KALLSYMS, Symbols, read_symbols

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pypwru.cache import Cache
    from pypwru.config import Config
    from pypwru.program.build import Bytecode

_ALL = (*JUDGES, *(judge.instead[0] for judge in JUDGES if judge.instead))
_NICE = 5  # a third of the drain's weight, when both compete for a CPU
_BEHIND_STREAMS = 3


class Made(NamedTuple):
    """What the child built.

    Args:
        symbols: kallsyms of the functions to hook.
        bytecode: of the handlers.
    """

    symbols: Symbols
    bytecode: Bytecode


class Making:
    """A child process that builds the handlers of a verdict source.

    Args:
        judge: one of ``JUDGES``, or the fallback of one.
        config: of the run, without the features that this kernel lacks.
        defines: macros of the handlers, name -> text.
        cache: the child stores the bytecode there, too.

    Raises:
        ChildError: no child can be started.
        KernelError: /proc/kallsyms can't be opened.
    """

    def __init__(
        self, judge: Judge, config: Config, defines: Mapping[str, str], cache: Cache
    ) -> None:
        with _kallsyms() as fd:
            self._child = Child(
                f"{__name__}:make",
                _ALL.index(judge),
                fd,
                str(config.kernel_btf or ""),
                str(cache.folder or ""),
                defines,
                config.output_ct,
                descriptors=[fd],
                nice=_NICE,
            )

    def is_over(self) -> bool:
        """Return whether the child is done, so that ``made`` won't block."""
        return self._child.is_over()

    def made(self) -> Made | None:
        """Wait for the child, and return what to attach; None if the functions don't exist.

        Raises:
            PypwruError: any error of ``make``, or ChildError if the child itself failed.
        """
        found = self._child.result()
        if found is None:
            return None
        names, addresses, code = found
        bytecode = {name: bytes.fromhex(text) for name, text in code.items()}
        return Made(Symbols(names, array("Q", addresses)), bytecode)

    def close(self) -> None:
        """Kill the child if it still runs."""
        self._child.close()


@contextmanager
def _kallsyms() -> Iterator[int]:
    """Yield a descriptor of KALLSYMS that is above those of the standard streams.

    Whether addresses are readable is decided at open (kernel/kallsyms.c:kallsyms_open()): by the
    privileges of this process, whatever the child's are.
    """
    try:
        with owned(os.open(KALLSYMS, os.O_RDONLY | os.O_CLOEXEC)) as opened:
            fd = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _BEHIND_STREAMS)
    except OSError as error:
        advice = cure(error, "is /proc mounted?")
        raise KernelError(f"cannot read {KALLSYMS}: {error.strerror}; {advice}") from error
    with owned(fd):
        yield fd


def make(
    number: int,
    kallsyms: int,
    kernel_btf: str,
    folder: str,
    defines: Mapping[str, str],
    has_conntrack: bool,
) -> tuple[Sequence[str], Sequence[int], Mapping[str, str]] | None:
    """Build the handlers of a verdict source; runs in the child.

    Args:
        number: index of the source in ``_ALL``.
        kallsyms: descriptor of KALLSYMS.
        kernel_btf: path of --kernel-btf; empty for none.
        folder: of the cache; empty for none.
        defines: macros of the handlers, name -> text.
        has_conntrack: whether handlers read conntrack's structs.

    Returns:
        Names and addresses of symbols, and handler -> its bytecode in hex; None if the functions of
        the source don't exist.

    Raises:
        BuildError: as of ``build``.
        BTFError: types can't be read.
        KernelError: symbols can't be read.
    """
    from pypwru.btf.load import load_vmlinux
    from pypwru.cache import Cache
    from pypwru.program.build_nft import build_unit
    from pypwru.program.compiler import compile_handlers
    from pypwru.program.conntrack import conntrack_types

    judge = _ALL[number]
    symbols = read_symbols(judge.symbols, kallsyms)
    functions = judge.found(symbols)
    if not functions:
        return None
    cache = Cache(Path(folder) if folder else None)
    btf = load_vmlinux(Path(kernel_btf) if kernel_btf else None, cache)
    also = [conntrack_types(btf)] if has_conntrack else []
    made = build_unit(btf, defines, cache, also, judge.unit, functions[0], compile_handlers)
    code = {name: octets.hex() for name, octets in made.items()}
    return symbols.displays, list(symbols.values), code
