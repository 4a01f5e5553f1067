"""What is attached to who judges packets and came late is made in a child: meanwhile, the ring is
drained.

Natively it takes half a second of processor time, in which a flood fills the ring: symbols are
read, types parsed, and handlers compiled.
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
_NICE = 5  # a third of what the drain gets where both want a processor
_BEHIND_STREAMS = 3


class Made(NamedTuple):
    """What is attached.

    Args:
        symbols: those of the functions that are hooked.
        bytecode: of the handlers.
    """

    symbols: Symbols
    bytecode: Bytecode


class Making:
    """What a child is at.

    Args:
        judge: one of ``JUDGES``, or what is hooked instead of one.
        config: of the run, without what can't be had here.
        defines: macros of the handlers, name -> text.
        cache: where they are kept, too.

    Raises:
        ChildError: no child can be started.
        KernelError: symbols can't be read.
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
        """Whether ``made`` need not wait."""
        return self._child.is_over()

    def made(self) -> Made | None:
        """What to attach; None where the functions are not there. Waits for it.

        Raises:
            PypwruError: as of ``make``, or ChildError.
        """
        found = self._child.result()
        if found is None:
            return None
        names, addresses, code = found
        bytecode = {name: bytes.fromhex(text) for name, text in code.items()}
        return Made(Symbols(names, array("Q", addresses)), bytecode)

    def close(self) -> None:
        """Make it no longer."""
        self._child.close()


@contextmanager
def _kallsyms() -> Iterator[int]:
    """A descriptor of KALLSYMS that is no standard stream's.

    Who may see addresses is decided when it is opened (kallsyms_open() of kernel/kallsyms.c): with
    this process's rights, whatever the child's are.
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
    """Called in the child.

    Args:
        number: of the judge in ``_ALL``.
        kallsyms: descriptor of KALLSYMS.
        kernel_btf: as of the Config; empty for None.
        folder: the cache's; likewise.
        defines: as of Making.
        has_conntrack: whether handlers read conntrack's structs.

    Returns:
        Names and addresses of symbols, and handler -> its bytecode in hex; None where the judge's
        functions are not there.

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
