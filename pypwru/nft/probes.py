"""Attach to nftables and iptables-legacy, at the start or when their module is loaded.

The handlers of a source that appears during the run are built in a child process (module_load.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.backends import attach_extra
from pypwru.attach.report import AttachReport
from pypwru.discovery.functions import Function
from pypwru.discovery.plan import AttachPlan
from pypwru.errors import KernelError, PypwruError
from pypwru.kernel.bpf import map_update
from pypwru.kernel.kallsyms import Symbols
from pypwru.kernel.module_instance import module_instance_id
from pypwru.nft.verdict_sources import VERDICT_SOURCES, VerdictSource
from pypwru.program.build import Bytecode

if TYPE_CHECKING:
    from pypwru.attach.select import BackendPlan
    from pypwru.log import Log
    from pypwru.nft.module_load import HandlerBuild
    from pypwru.program.load import Loader

CompileUnit = Callable[[str, Function], Bytecode]


class _Hook(NamedTuple):
    """A function of one instance of a module, or of vmlinux.

    Args:
        display: name, as in kallsyms.
        module: its module; '' for vmlinux.
        instance: as of ``module_instance_id``.
    """

    display: str
    module: str
    instance: int

    @classmethod
    def on(cls, function: Function) -> _Hook:
        """Return the hook on a function as it is loaded now."""
        return cls(function.display, function.module, module_instance_id(function.module))

    @property
    def is_loaded(self) -> bool:
        """Whether this instance of its module is still loaded."""
        return module_instance_id(self.module) == self.instance


class NftProbes:
    """The probes on verdict sources; ``poll`` adds those of sources that appear.

    Args:
        choice: the backend, symbols and skb lifetime hooks of the run.
        loader: loads the handlers.
        compile_unit: compiles the handlers of a unit for the module that the function is in now.
        start_build: starts to build the handlers of a source in a child process.
        report: gets the names of the addresses in records.
        log: gets a line for each source that is attached, or can't be.
        stack: closes the probes.
        unhooked_map: descriptor of an array map whose only element is 1 while a source exists that
            is not fully hooked: a drop by a netfilter hook may then be that source's.
    """

    # Many arguments: it repeats at any time what a session does at its start.
    def __init__(
        self,
        choice: BackendPlan,
        loader: Loader,
        compile_unit: CompileUnit,
        start_build: Callable[[VerdictSource], HandlerBuild],
        report: AttachReport,
        log: Log,
        stack: ExitStack,
        unhooked_map: int,
    ) -> None:
        self._choice = choice
        self._loader = loader
        self._compile_unit = compile_unit
        self._start_build = start_build
        self._report = report
        self._log = log
        self._stack = stack
        self._unhooked_map = unhooked_map
        self._written_unhooked = False
        self._failed: set[str] = set()  # names of sources; a fallback has that of its source
        self._refused: set[_Hook] = set()  # by the kernel, in sources that are attached otherwise
        self._pending_hooks = choice.verdict_hooks
        self._sources = list(VERDICT_SOURCES)
        self._instances: dict[
            str, int
        ] = {}  # module -> instance at the last poll, 0 while unloaded
        self._hooked: set[_Hook] = set()
        self._builds: dict[VerdictSource, HandlerBuild] = {}
        stack.callback(self._drop_all_builds)

    def poll(self) -> None:
        """Build handlers for sources whose module was loaded, and attach those that are built."""
        instances = {
            module: module_instance_id(module)
            for source in self._sources
            for module in source.modules
        }
        loaded = {
            name
            for name, instance in instances.items()
            if instance not in (0, self._instances.get(name))
        }
        previous, self._instances = self._instances, instances
        for source in list(self._sources):
            if loaded.intersection(source.modules):
                self._begin_build(source)
            elif not any(instances[module] for module in source.modules):
                self._drop_build(source)  # unloaded while its handlers were built
                if any(map(previous.get, source.modules)):  # otherwise it is built in
                    self._failed.discard(source.name)
        for source, build in list(self._builds.items()):
            if build.is_done():
                self._finish_build(source, build)
        self._refused = {hook for hook in self._refused if hook.is_loaded}
        self._update_unhooked()

    def _begin_build(self, source: VerdictSource) -> None:
        self._drop_build(source)
        with self._warn_on_failure(source):
            self._builds[source] = self._start_build(source)

    def _finish_build(self, source: VerdictSource, build: HandlerBuild) -> None:
        with self._warn_on_failure(source):
            try:
                built = build.result()
            finally:
                self._drop_build(source)
            if built:
                self._attach_source(source, built.symbols, built.bytecode)

    def _drop_build(self, source: VerdictSource) -> None:
        if source in self._builds:
            self._builds.pop(source).close()

    def _drop_all_builds(self) -> None:
        for source in list(self._builds):
            self._drop_build(source)

    @contextmanager
    def _warn_on_failure(self, source: VerdictSource) -> Iterator[None]:
        """Turn a failure to attach to ``source`` into a warning, and note whether it failed."""
        try:
            yield
        except PypwruError as error:
            self._log.warn(f"Can't trace verdicts of {source.name}", why=error)
            self._failed.add(source.name)
        else:
            self._failed.discard(source.name)

    def attach(self, symbols: Symbols) -> None:
        """Attach to the sources that ``symbols`` contain; a failure is logged and not raised.

        Args:
            symbols: of kallsyms.
        """
        for source in list(self._sources):
            found = source.find_functions(symbols)
            if found:
                self._instances |= {
                    function.module: module_instance_id(function.module) for function in found
                }
                with self._warn_on_failure(source):
                    self._attach_source(source, symbols)
        self._update_unhooked()

    def _attach_source(
        self, source: VerdictSource, symbols: Symbols, bytecode: Bytecode | None = None
    ) -> None:
        """Attach to one source, or to its fallback.

        Args:
            source: the source.
            symbols: of its functions.
            bytecode: bytecode of its handlers; None to compile them here.
        """
        own_report = AttachReport(targets=self._report.targets)
        with ExitStack() as stack:
            active = self._enable(source, source.find_functions(symbols), stack)
            if active is not source and bytecode is not None:
                self._begin_build(active)
                return
            source = active
            hooks = {_Hook.on(function): function for function in source.find_functions(symbols)}
            new = {hook: function for hook, function in hooks.items() if hook not in self._hooked}
            if not new:
                return
            functions = list(new.values())
            backend = self._choice.kprobe_backend
            assert backend, "sources are hooked only if kprobes are available"
            groups = source.group_functions(functions)
            plan = AttachPlan(backend, groups, self._pending_hooks)
            if bytecode is None:
                bytecode = self._compile_unit(source.unit, functions[0])
            self._loader.add(bytecode)
            stack.enter_context(
                attach_extra(self._choice, plan, self._loader, own_report, self._log)
            )
            _check_hooked(functions[0], own_report)
            self._stack.push(stack.pop_all())
        self._hooked.update(new)
        self._pending_hooks = {}
        self._report.missed_counters += own_report.missed_counters
        planned = (*plan.functions, *chain.from_iterable(plan.hooks.values()))
        refusals = dict(own_report.ignored)
        self._refused.update(_Hook.on(each) for each in planned if each.display in refusals)
        for name, why in own_report.ignored:
            self._log.warn(f"Can't trace all verdicts of {source.name}", function=name, why=why)
        for handler, hooked in groups.items():
            if handler.number and handler.is_return:
                self._report.targets.add({handler.number: hooked[0].display})
        refused = {"ignored": len(own_report.ignored)} if own_report.ignored else {}
        self._log.info(f"Attached to {source.name}", **refused)

    def _update_unhooked(self) -> None:
        """Set the ``has_unhooked`` element if a source exists that isn't fully hooked."""
        has_unhooked = bool(self._failed or self._refused or self._builds)
        if has_unhooked is not self._written_unhooked:
            map_update(self._unhooked_map, bytes(4), has_unhooked.to_bytes(8, sys.byteorder))
            self._written_unhooked = has_unhooked

    def _enable(
        self, source: VerdictSource, functions: list[Function], stack: ExitStack
    ) -> VerdictSource:
        """Enable tracing for this source; on failure switch to its fallback for good, and log it.

        Args:
            source: the source.
            functions: of it, that exist.
            stack: disables tracing.

        Returns:
            The source in use.

        Raises:
            KernelError: it can't be enabled, and has no fallback.
        """
        try:
            stack.enter_context(source.enable(functions))
        except KernelError as error:
            if not source.fallback:
                raise
            fallback, limitation = source.fallback
            self._log.warn(f"{source.name}: {limitation}", why=error)
            self._sources[self._sources.index(source)] = fallback
            return fallback
        return source


def _check_hooked(function: Function, report: AttachReport) -> None:
    """Check that the kernel accepted a probe without which the source has no events.

    Raises:
        KernelError: it refused.
    """
    why = dict(report.ignored).get(function.display)
    if why is not None:
        raise KernelError(f"the kernel refused a probe on {function.display}: {why}")


@contextmanager
def attach_verdict_probes(
    choice: BackendPlan,
    loader: Loader,
    compile_unit: CompileUnit,
    start_build: Callable[[VerdictSource], HandlerBuild],
    report: AttachReport,
    log: Log,
    unhooked_map: int,
) -> Iterator[Callable[[], None]]:
    """Attach probes to all verdict sources; detach on exit.

    Args:
        choice: the backend, symbols and skb lifetime hooks of the run.
        loader: loads the handlers.
        compile_unit: compiles the handlers of a unit for the module that the function is in now.
        start_build: starts to build the handlers of a source in a child process.
        report: gets the names of the addresses in records.
        log: gets a line for each source that is attached, or can't be.
        unhooked_map: descriptor of an array map, as of NftProbes.

    Yields:
        A callable to call periodically: it attaches to sources that appear.
    """
    assert choice.symbols, "backends with kprobes have symbols"
    with ExitStack() as stack:
        probes = NftProbes(
            choice, loader, compile_unit, start_build, report, log, stack, unhooked_map
        )
        probes.attach(choice.symbols)
        yield probes.poll
