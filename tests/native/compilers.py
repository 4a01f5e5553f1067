"""bpf/ compiled by the BCC of several Debian releases, for this machine's kernel to verify.

Only the compile runs in the other user space: its bytecode is loaded here, by pypwru's own loader.
A program is loaded as the type that it has in a run. The kernel loads programs of kprobes also
where it can't attach them; tracing programs it may refuse, and those of fentry, whose context is
that of raw tracepoints, are loaded as such.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from pypwru.bpf_sources import FIELDS, MAIN, NFT, NFT_EVAL, XTABLES, sources
from pypwru.btf.load import load_vmlinux
from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.cli.flags import parse
from pypwru.config import Backend, Config
from pypwru.discovery.argument_slots import ArgumentSlots
from pypwru.discovery.handlers import HANDLERS, HandlerKind
from pypwru.errors import KernelError
from pypwru.filter.criteria import Criteria
from pypwru.kernel.bpf import AttachType, ProgramType
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.names.drop_reasons import DropReasons
from pypwru.needs import Needs
from pypwru.nft.types import NftTypes
from pypwru.nft.xt_types import XtTypes
from pypwru.program import maps
from pypwru.program.conntrack_types import ConntrackTypes
from pypwru.program.layout import build_layout
from pypwru.program.load import Loader
from pypwru.program.macros import defines
from pypwru.program.page_bases import PageBases, find_page_bases
from pypwru.program.sampling_constants import sampling_constants
from pypwru.wire.layout import record_layout
from tests.lab.vm import chroots
from tests.lab.vm.packages import LabError
from tests.native.tracing import environment
from tests.support.criteria import criteria_of
from tests.support.need import need
from tests.support.option_sets import OPTIONS
from tests.support.paths import TREE

HERE = "here"

_FUNCTIONS = {name for name, row in HANDLERS.items() if row.kind is HandlerKind.SKB_FUNCTION}
_BPF_PROGRAMS = {name for name, row in HANDLERS.items() if row.kind is HandlerKind.PROGRAM}
_TRACING_BACKENDS = {Backend.FENTRY, Backend.FENTRY_MULTI}
_KPROBE_BACKENDS = {Backend.KPROBE, Backend.KPROBE_MULTI}


class Case(NamedTuple):
    """Options and backend of a compiled run.

    Args:
        options: a key of OPTIONS.
        backend: of the functions.
    """

    options: str
    backend: Backend

    def __str__(self) -> str:
        return f"{self.options}-{self.backend.value}"


class Unit(NamedTuple):
    """The arguments of ``build`` but for its cache."""

    main: str
    layout: str
    defines: Mapping[str, str]


class Run(NamedTuple):
    """A case, as far as a session has it before it compiles."""

    config: Config
    needs: Needs
    criteria: Criteria
    units: list[Unit]


@functools.cache
def _btf() -> BTF:
    return load_vmlinux(None, Cache())


@functools.cache
def _run(case: Case) -> Run:
    config = parse(OPTIONS[case.options].split())
    assert isinstance(config, Config)
    config = config._replace(buffer_size=1 << 16)
    place = NetnsFilter(1, "eth0") if case.options == "everything" else NetnsFilter(0, "")
    criteria = criteria_of(config, place, _btf())
    beside = {Backend.KPROBE} if case.backend in _TRACING_BACKENDS else set[Backend]()
    needs = Needs.of(config, page_fragments=criteria.needs_fragments)
    macros = defines(needs, {case.backend, *beside}, criteria, record_layout(needs))
    also = [ConntrackTypes(_btf())] if config.output_ct else []
    units = [Unit(MAIN, build_layout(sources()[FIELDS], _btf(), *also), macros)]
    if case.backend in _KPROBE_BACKENDS:
        nft = build_layout(sources()[FIELDS], _btf(), NftTypes(_btf()), *also)
        tables = XtTypes(_btf(), "ip_tables", "ipt_do_table")
        legacy = build_layout(sources()[FIELDS], _btf(), tables, *also)
        units += [Unit(NFT, nft, macros), Unit(NFT_EVAL, nft, macros)]
        units += [Unit(XTABLES, legacy, {**macros, **tables.macros})]
    return Run(config, needs, criteria, units)


class Compilers:
    """Compiles of the same cases by several compilers, all at once.

    Args:
        suites: keys of chroots.LLVM, or HERE.
        cases: what each compiles.
        stack: stops compiles that still run.
    """

    def __init__(self, suites: Sequence[str], cases: Sequence[Case], stack: ExitStack) -> None:
        self._cases = cases
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        units = [unit._asdict() for case in cases for unit in _run(case).units]
        (self._folder / "units").write_text(json.dumps(units))
        self._missing: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for suite in suites:
            try:
                self._running[suite] = self._begin(suite)
            except LabError as error:
                self._missing[suite] = str(error)
            else:
                stack.callback(self._running[suite].wait)
                stack.callback(self._running[suite].kill)
        self._made: dict[str, Any] = {}
        self._verified: dict[tuple[str, Case], dict[str, int | str]] = {}

    def _begin(self, suite: str) -> subprocess.Popen[bytes]:
        command = ["-m", "tests.native.compile_units"]
        here = suite == HERE
        words = [sys.executable, *command] if here else chroots.inside(suite, ["python3", *command])
        with (
            (self._folder / "units").open() as units,
            (self._folder / suite).open("w") as made,
            (self._folder / f"{suite}.log").open("w") as log,
        ):
            return subprocess.Popen(words, stdin=units, stdout=made, stderr=log, env=environment())

    def made(self, suite: str) -> Any:
        """Return what the compiler of ``suite`` made: ``llvm``, and ``units`` in their order."""
        need(suite not in self._missing, self._missing.get(suite, ""))
        if suite not in self._made:
            status = self._running[suite].wait()
            assert status == 0, (self._folder / f"{suite}.log").read_text()
            self._made[suite] = json.loads((self._folder / suite).read_text())
        return self._made[suite]

    def verified(self, suite: str, case: Case) -> Mapping[str, int | str]:
        """Return results of ``_load`` of the units of ``case``, by UNIT:HANDLER."""
        if (suite, case) not in self._verified:
            made = self.made(suite)["units"]
            before = sum(len(_run(each).units) for each in self._cases[: self._cases.index(case)])
            self._verified[suite, case] = {
                f"{unit.main}:{handler}": verified
                for number, unit in enumerate(_run(case).units, before)
                for handler, verified in _load(case, made[number]).items()
            }
        return self._verified[suite, case]


def compile_units(case: Case, tree: Path) -> Any:
    """Return the bytecode of the units of ``case``, compiled from the sources of another tree."""
    units = json.dumps([unit._asdict() for unit in _run(case).units])
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.compile_units"], input=units, capture_output=True,
        text=True, check=True, env=environment(PYTHONPATH=f"{tree}:{TREE}"),
    )  # fmt: skip
    return json.loads(done.stdout)["units"]


def _load(case: Case, unit: Mapping[str, str]) -> dict[str, int | str]:
    """Load all handlers of a unit that a run of this kind loads.

    Args:
        unit: handler -> its bytecode in hex.

    Returns:
        Handler -> how many instructions the verifier went through, or why it refused the program.
    """
    run = _run(case)
    reads_pages = run.needs.packet_data or run.needs.page_fragments
    bytecode = {name: bytes.fromhex(code) for name, code in unit.items()}
    found: dict[str, int | str] = {}
    with ExitStack() as stack:
        constants = {
            **run.criteria.load_time_constants(),
            **(find_page_bases(_btf()) if reads_pages else PageBases()).constants(),
            **DropReasons(_btf()).constants(),
            **sampling_constants(
                sample_rate=run.config.sample_rate,
                sample_flow=run.config.sample_flow,
                rate_limit=run.config.rate_limit,
                max_hits=run.config.max_hits,
            ),
        }
        shared = maps.create_maps(run.needs, run.config.buffer_size, stack)
        loader = Loader(bytecode, run.criteria.bodies_by_marker(), constants, shared, stack)
        for handler in bytecode:
            kind = _kind(case.backend, handler)
            if kind is None:
                continue
            try:
                fd = loader.load(handler, ArgumentSlots(1, 2), kind, 1)
            except KernelError as error:
                found[handler] = f"{error}\n{error.detail[-2000:]}"
            else:
                found[handler] = _verified(fd)
    return found


def _kind(backend: Backend, handler: str) -> tuple[ProgramType, AttachType] | None:
    """Return the type as which a handler is loaded; None if no run, or kernel, loads it."""
    if handler in _FUNCTIONS and backend is Backend.FENTRY_MULTI:
        return None  # reads its arguments by number, which tracing programs alone can
    by_array = backend in (Backend.TRACEPOINT, Backend.FENTRY)
    if handler in _BPF_PROGRAMS or (handler in _FUNCTIONS and by_array):
        return ProgramType.RAW_TRACEPOINT, AttachType.NONE
    if backend is Backend.TRACEPOINT:
        return None
    multi = backend is Backend.KPROBE_MULTI
    return ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI if multi else AttachType.NONE


def _verified(fd: int) -> int:
    """``verified_insns`` of struct bpf_prog_info (since Linux 5.16)."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    fields = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    return int(fields["verified_insns"])
