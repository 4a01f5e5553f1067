"""Phase 3, attach: every probe of a session, and what watches the system for more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.backends import PROBE_NOUN, attach
from pypwru.attach.kernel_switches import watch_switches
from pypwru.attach.report import AttachReport
from pypwru.attach.throttle import open_throttle_report
from pypwru.config import Backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack

    from pypwru.attach.throttle import ThrottleReport
    from pypwru.cache import Cache
    from pypwru.log import Log
    from pypwru.nft.module_load import HandlerBuild
    from pypwru.nft.verdict_sources import VerdictSource
    from pypwru.phases.load import Loaded
    from pypwru.phases.plan import Plan


class Attached(NamedTuple):
    """The attached probes; detached by the stack of ``attach_probes``.

    Args:
        report: of what is attached; grows while modules are loaded.
        pollers: to be called about twice a second, to notice changes of the system.
        throttle_report: counts the events that --max-hits suppressed, by function.
    """

    report: AttachReport
    pollers: list[Callable[[], None]]
    throttle_report: ThrottleReport


def attach_probes(
    plan: Plan,
    loaded: Loaded,
    cache: Cache,
    stop_requested: Callable[[], bool],
    probes: ExitStack,
    log: Log,
) -> Attached:
    """Attach every probe of ``plan``.

    Args:
        plan: of the session.
        loaded: its programs and maps.
        cache: of bytecode.
        stop_requested: whether to leave it at what is attached so far.
        probes: closed to detach.
        log: of the run.

    Raises:
        PypwruError: nothing could be attached, or what the run can't do without.
    """
    config, choice, map_fds = plan.config, plan.choice, loaded.map_fds
    report = AttachReport()
    pollers: list[Callable[[], None]] = []
    report_unmatched = _open_capture_points(plan, loaded, report, log)
    throttle_report = probes.enter_context(
        open_throttle_report(map_fds, report.targets, log, max_hits=config.max_hits)
    )
    log.info(f"Attaching {PROBE_NOUN[choice.plan.backend]}", via=choice.plan.backend.value)
    with log.operation("Attaching"):
        probes.enter_context(attach(choice, loaded.loader, report, log, stop_requested))
    if plan.program_kinds:
        from pypwru.attach.bpf_programs import trace_programs

        programs = trace_programs(plan.program_kinds, loaded.loader, log, report, stop_requested)
        pollers.append(probes.enter_context(programs).poll)
    if not (report.target_count or stop_requested()):
        from pypwru.discovery.no_match import nothing_attached_error

        raise nothing_attached_error(report.ignored)
    if plan.needs.verdicts:
        with log.operation("Attaching to nftables"):
            pollers.append(probes.enter_context(_nft_probes(plan, loaded, cache, report, log)))
    modules = {function.module for function in choice.plan.functions} - {""}
    if modules:
        from pypwru.attach.module_reload import watch_reloads

        reloaded = watch_reloads(modules, plan.request, choice, loaded.loader, report, log)
        pollers.append(probes.enter_context(reloaded))
    if choice.plan.backends != {Backend.TRACEPOINT}:
        pollers.append(probes.enter_context(watch_switches(choice.plan.backends, log)))
    log.info("Attached", ignored=len(report.ignored))
    for name, reason in (*report.ignored, *choice.plan.unattachable):
        log.debug("Ignored", function=name, why=reason)
    if report_unmatched:
        report_unmatched()
    if config.max_hits:
        pollers.append(partial(throttle_report.log_new, log, config.max_hits))
    return Attached(report, pollers, throttle_report)


def _nft_probes(
    plan: Plan, loaded: Loaded, cache: Cache, report: AttachReport, log: Log
) -> AbstractContextManager[Callable[[], None]]:
    """Return the context of the probes on verdict sources; it yields their poller."""
    from pypwru.nft.build import build_unit
    from pypwru.nft.module_load import HandlerBuild
    from pypwru.nft.probes import attach_verdict_probes

    macros = loaded.macros
    keep = loaded.debug_files.write if loaded.debug_files is not None else None

    def start_build(source: VerdictSource) -> HandlerBuild:
        return HandlerBuild(
            source,
            macros,
            cache,
            keep,
            kernel_btf=plan.config.kernel_btf,
            has_conntrack=plan.needs.conntrack,
        )

    compile_unit = partial(build_unit, plan.request.btf, macros, cache, plan.conntrack, keep=keep)
    unhooked_map = loaded.map_fds["nft_unhooked"]
    return attach_verdict_probes(
        plan.choice, loaded.loader, compile_unit, start_build, report, log, unhooked_map
    )


def _open_capture_points(
    plan: Plan, loaded: Loaded, report: AttachReport, log: Log
) -> Callable[[], None] | None:
    """Keep the map of capture points filled; return what reports names without a target.

    None is returned without such a map.
    """
    needs = plan.needs
    if not needs.capture_points:
        return None
    from pypwru.pcap.capture_points import open_capture_points

    return open_capture_points(
        loaded.map_fds["capture_points"],
        plan.config.capture_when,
        plan.choice.plan,
        report.targets,
        loaded.reasons,
        log,
        traces_programs=needs.programs,
        traces_nft=needs.verdicts,
    )
