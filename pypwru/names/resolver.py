"""The name resolver of a run, built once and used by every output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.names.clock import Clock
from pypwru.names.event_names import MemberFormatter, NameResolver
from pypwru.names.functions import FunctionNames
from pypwru.names.namespaces import NetnsNames
from pypwru.names.processes import ProcessPaths, has_kernel_pids
from pypwru.names.symbols import SymbolNames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from pypwru.log import Log
    from pypwru.names.drop_reasons import DropReasons
    from pypwru.nft.service import NftSource


def _has_tracepoints(targets: Mapping[int, str]) -> bool:
    """Return whether tracepoints are traced, not functions.

    The first name decides: a run never traces both, and tracepoints are added before TC and XDP
    programs.
    """
    return next(iter(targets.values()), "").startswith("tp:")


def _make_process_path(log: Log) -> Callable[[int, str, int], str]:
    if has_kernel_pids():
        return ProcessPaths().path
    log.warn(
        "Programs are shown by their task's name: /proc is that of another PID namespace than the "
        "kernel's; run pypwru in the host's (--pid=host, hostPID: true)"
    )
    return lambda pid, comm, start_stack: ""


def build_resolver(
    reasons: DropReasons,
    targets: Mapping[int, str],
    skb_members: MemberFormatter | None,
    xdp_members: MemberFormatter | None,
    nft: NftSource,
    log: Log,
    stack: ExitStack,
    *,
    needs_symbols: bool,
    needs_netns_names: bool,
) -> NameResolver:
    """Build the name resolver of a run.

    Args:
        reasons: names of drop reasons.
        targets: address in a record -> name, of the run.
        skb_members: formatter of --output-skb-metadata; None without that option.
        xdp_members: formatter of --output-xdp-metadata; None without that option.
        nft: chain names and rule texts.
        log: receives a warning if program paths can't be resolved.
        stack: takes ownership of the thread that watches for network namespace names.
        needs_symbols: whether callers, stacks or drop locations are resolved, for which kernel
            symbols are read.
        needs_netns_names: whether network namespaces are resolved.

    Raises:
        KernelError: kernel symbols are needed, and can't be read.
    """
    symbols = SymbolNames(read_now=needs_symbols)
    functions = FunctionNames(targets, reasons)
    namespaces = NetnsNames()
    if needs_netns_names:
        stack.enter_context(namespaces.watch_mounts())
    return NameResolver(
        process=_make_process_path(log),
        namespace=namespaces.name,
        function=functions.text,
        is_drop=functions.is_drop,
        caller=lambda frames: symbols.caller(frames, _has_tracepoints(targets)),
        location=lambda frames: symbols.location(frames, _has_tracepoints(targets)),
        stack=symbols.stack,
        chain=nft.chain,
        rule=nft.rule,
        skb_members=skb_members,
        xdp_members=xdp_members,
        clock=Clock(),
    )
