"""Attach to nftables and iptables-legacy, at the start or when their module is loaded.

The handlers of a source that appears during the run are built in a child process (late.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.attach.attach import probed
from pypwru.attach.attached import Attached
from pypwru.attach.judges import JUDGES, Judge
from pypwru.config import Config
from pypwru.discovery.functions import Function
from pypwru.discovery.plan import AttachPlan
from pypwru.errors import KernelError, PypwruError
from pypwru.kernel.bpf import map_update
from pypwru.kernel.kallsyms import Symbols
from pypwru.kernel.modules import load_of
from pypwru.program.build import Bytecode

if TYPE_CHECKING:
    from pypwru.attach.backend import Choice
    from pypwru.attach.late import Making
    from pypwru.log import Log
    from pypwru.program.load import Loader

Compile = Callable[[str, Function], Bytecode]


class NftProbes:
    """The probes on verdict sources; ``poll`` adds those of sources that appear.

    Args:
        choice: the backend, symbols and skb lifetime hooks of the run.
        loader: loads the handlers.
        compile: compiles the handlers of a unit for the module that the function is in now.
        make: starts to build the handlers of a source in a child process.
        report: gets the names of the addresses in records.
        log: gets a line for each source that is attached, or can't be.
        stack: closes the probes.
        unhooked: descriptor of an array map whose only element is 1 while a source exists that is
            not fully hooked: a drop by a netfilter hook may then be that source's.
    """

    # Many arguments: it repeats at any time what a session does at its start.
    def __init__(
        self,
        choice: Choice,
        loader: Loader,
        compile: Compile,
        make: Callable[[Judge], Making],
        report: Attached,
        log: Log,
        stack: ExitStack,
        unhooked: int,
    ) -> None:
        self._choice = choice
        self._loader = loader
        self._compile = compile
        self._make = make
        self._report = report
        self._log = log
        self._stack = stack
        self._unhooked = unhooked
        self._refused = False
        self._noted = False
        self._hooks = choice.verdict_hooks
        self._judges = list(JUDGES)
        self._known: dict[str, int] = {}  # module -> instance at the last poll, 0 while unloaded
        self._hooked: set[tuple[str, int]] = set()  # (display name, instance of its module)
        self._makings: dict[Judge, Making] = {}
        stack.callback(self._forget_all)

    def poll(self) -> None:
        """Build handlers for sources whose module was loaded, and attach those that are built."""
        loads = {module: load_of(module) for judge in self._judges for module in judge.modules}
        come = {name for name, load in loads.items() if load not in (0, self._known.get(name))}
        self._known = loads
        for judge in list(self._judges):
            if come.intersection(judge.modules):
                self._begin(judge)
            elif not any(loads[module] for module in judge.modules):
                self._forget(judge)  # unloaded while its handlers were built
        for judge, making in list(self._makings.items()):
            if making.is_over():
                self._finish(judge, making)
        self._note_unhooked()

    def _begin(self, judge: Judge) -> None:
        self._forget(judge)
        with self._warning(judge):
            self._makings[judge] = self._make(judge)

    def _finish(self, judge: Judge, making: Making) -> None:
        with self._warning(judge):
            try:
                made = making.made()
            finally:
                self._forget(judge)
            if made:
                self._attach(judge, made.symbols, made.bytecode)

    def _forget(self, judge: Judge) -> None:
        if judge in self._makings:
            self._makings.pop(judge).close()

    def _forget_all(self) -> None:
        for judge in list(self._makings):
            self._forget(judge)

    @contextmanager
    def _warning(self, judge: Judge) -> Iterator[None]:
        """Turn a failure to attach to ``judge`` into a warning."""
        try:
            yield
        except PypwruError as error:
            self._log.warn(f"Can't trace verdicts of {judge.name}", why=error)
            self._refused = True

    def attach(self, symbols: Symbols) -> None:
        """Attach to the sources that ``symbols`` contain; a failure is logged and not raised.

        Args:
            symbols: of kallsyms.
        """
        for judge in list(self._judges):
            found = judge.found(symbols)
            if found:
                self._known |= {each.module: load_of(each.module) for each in found}
                with self._warning(judge):
                    self._attach(judge, symbols)
        self._note_unhooked()

    def _attach(self, judge: Judge, symbols: Symbols, made: Bytecode | None = None) -> None:
        """Attach to one source, or to its fallback.

        Args:
            judge: the source.
            symbols: of its functions.
            made: bytecode of its handlers; None to compile them here.
        """
        own = Attached(names=self._report.names)
        with ExitStack() as stack:
            speaking = self._speaking(judge, judge.found(symbols), stack)
            if speaking is not judge and made is not None:
                self._begin(speaking)
                return
            judge = speaking
            functions = self._new(judge.found(symbols))
            if not functions:
                return
            backend = self._choice.probes
            assert backend, "sources are hooked only if kprobes are available"
            groups = judge.groups(functions)
            plan = AttachPlan(backend, groups, self._hooks)
            if made is None:
                made = self._compile(judge.unit, functions[0])
            self._loader.add(made)
            stack.enter_context(probed(self._choice, plan, self._loader, own, self._log))
            _require(functions[0], own)
            self._stack.push(stack.pop_all())
        self._hooks = {}
        self._report.missed += own.missed
        self._refused |= bool(own.ignored)
        for name, why in own.ignored:
            self._log.warn(f"Can't trace all verdicts of {judge.name}", function=name, why=why)
        for handler, hooked in groups.items():
            if handler.number and handler.returns:
                self._report.names[handler.number] = hooked[0].display
        refused = {"ignored": len(own.ignored)} if own.ignored else {}
        self._log.info(f"Attached to {judge.name}", **refused)

    def _note_unhooked(self) -> None:
        """Set the ``unhooked`` element if a source exists that isn't fully hooked."""
        unhooked = self._refused or bool(self._makings)
        if unhooked is not self._noted:
            map_update(self._unhooked, bytes(4), unhooked.to_bytes(8, sys.byteorder))
            self._noted = unhooked

    def _speaking(self, judge: Judge, functions: list[Function], stack: ExitStack) -> Judge:
        """Enable tracing for this source; on failure switch to its fallback for good, and log it.

        Args:
            judge: the source.
            functions: of it, that exist.
            stack: disables tracing.

        Returns:
            The source in use.

        Raises:
            KernelError: it can't be enabled, and has no fallback.
        """
        try:
            stack.enter_context(judge.key(functions))
        except KernelError as error:
            if not judge.instead:
                raise
            other, unseen = judge.instead
            self._log.warn(f"{judge.name}: {unseen}", why=error)
            self._judges[self._judges.index(judge)] = other
            return other
        return judge

    def _new(self, functions: list[Function]) -> list[Function]:
        """Return the functions not hooked since their module was loaded, now marked as hooked."""
        loads = {function.module: load_of(function.module) for function in functions}
        new = [each for each in functions if (each.display, loads[each.module]) not in self._hooked]
        self._hooked.update((each.display, loads[each.module]) for each in new)
        return new


def _require(function: Function, own: Attached) -> None:
    """Check that the kernel accepted a probe without which the source has no events.

    Raises:
        KernelError: it refused.
    """
    why = dict(own.ignored).get(function.display)
    if why is not None:
        raise KernelError(f"the kernel refused a probe on {function.display}: {why}")


@contextmanager
def nft_probes(
    config: Config,
    choice: Choice,
    loader: Loader,
    compile: Compile,
    make: Callable[[Judge], Making],
    report: Attached,
    log: Log,
    unhooked: int,
) -> Iterator[Callable[[], None]]:
    """Attach probes to all verdict sources; detach on exit.

    Args:
        config: of the run; without --output-nft and --filter-nft-* nothing is attached.
        choice: the backend, symbols and skb lifetime hooks of the run.
        loader: loads the handlers.
        compile, make, unhooked: as of NftProbes.
        report: gets the names of the addresses in records.
        log: gets a line for each source that is attached, or can't be.

    Yields:
        A callable to call periodically: it attaches to sources that appear.
    """
    if not config.asks_nft:
        yield lambda: None
        return
    assert choice.symbols, "backends with kprobes have symbols"
    with ExitStack() as stack:
        probes = NftProbes(choice, loader, compile, make, report, log, stack, unhooked)
        probes.attach(choice.symbols)
        yield probes.poll
