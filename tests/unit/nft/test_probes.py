"""Probes of verdict sources: hooked functions, argument positions, modules loaded later."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import cast

import pytest

from pypwru.attach.report import AttachReport
from pypwru.attach.select import BackendPlan
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.config import Backend
from pypwru.discovery.functions import Function
from pypwru.discovery.plan import AttachPlan, Handler
from pypwru.errors import BuildError, KernelError, PypwruError
from pypwru.kernel.kallsyms import Symbols
from pypwru.log import Log
from pypwru.nft import probes as nft_probes
from pypwru.nft.module_load import BuiltHandlers, HandlerBuild
from pypwru.nft.probes import NftProbes
from pypwru.nft.verdict_sources import VERDICT_SOURCES, VerdictSource
from pypwru.nft.xt_types import XtTypes
from pypwru.program.build import Bytecode
from pypwru.program.load import Loader
from pypwru.program.maps import MAPS
from tests.data.btf_encoder import Encoder

NFT, IP, *_ = VERDICT_SOURCES
NO_MODULE = "no_such_module"


def symbols(*displays: str) -> Symbols:
    return Symbols(list(displays), array("Q", range(16, 16 + 16 * len(displays), 16)))


def kernel(*arguments: str) -> BTF:
    """Return a BTF with ``ipt_do_table`` of these arguments, or without it."""
    encoder = Encoder()
    kinds = {
        "skb": encoder.ptr(encoder.struct("sk_buff", 8)),
        "state": encoder.ptr(encoder.struct("nf_hook_state", 8)),
        "table": encoder.ptr(encoder.struct("xt_table", 8)),
        "priv": encoder.ptr(0),
    }
    if arguments:
        pairs = [(name, kinds[name]) for name in arguments]
        encoder.func("ipt_do_table", encoder.proto(encoder.integer("int", 4), *pairs))
    return BTF(parse(encoder.bytes()))


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("priv", "skb", "state"), "0"),
        (("skb", "state", "table"), "1"),
        ((), "1"),
    ],
)
def test_skb_position_is_of_prototype(arguments: tuple[str, ...], first: str) -> None:
    types = XtTypes(kernel(*arguments), NO_MODULE, "ipt_do_table")
    assert types.macros == {"XT_SKB_FIRST": first}


def test_built_in_types_are_in_vmlinux() -> None:
    built_in = kernel("priv", "skb", "state")
    assert XtTypes(built_in, "", "ipt_do_table").macros == {"XT_SKB_FIRST": "0"}


def test_btf_precedes_known_layouts() -> None:
    encoder = Encoder()
    octet = encoder.integer("char", 1)
    encoder.struct("xt_table", 64, ("name", octet, 8 * 24))
    types = XtTypes(BTF(parse(encoder.bytes())), NO_MODULE, "ipt_do_table")
    for struct, path, offset in (("xt_table", "name", 24), ("ebt_table", "name", 16)):
        field = types.member(struct, path)
        assert field is not None
        assert field.offset == offset
    assert types.member("xt_table", "nonsense") is None


def test_modules_and_built_in_functions() -> None:
    present = symbols("nft_do_chain", "__nft_trace_packet", "ipt_do_table[ip_tables]")
    assert [function.display for function in NFT.find_functions(present)] == [
        "nft_do_chain",
        "__nft_trace_packet",
    ]
    (function,) = IP.find_functions(present)
    assert (function.module, function.addresses) == ("ip_tables", (48,))
    assert [source.name for source in VERDICT_SOURCES if source.find_functions(present)] == [
        NFT.name,
        IP.name,
    ]


def test_every_source_hooks_its_functions() -> None:
    fallbacks = [source.fallback[0] for source in VERDICT_SOURCES if source.fallback]
    for source in (*VERDICT_SOURCES, *fallbacks):
        functions = source.find_functions(symbols(*source.functions))
        assert [each.name for each in functions] == list(source.functions)
        groups = source.group_functions(functions)
        assert {function for group in groups.values() for function in group} == set(functions)


UNHOOKED_FD = 7  # a descriptor
Updates = list[tuple[int, bytes, bytes]]


@pytest.fixture(autouse=True)
def unhooked_updates(monkeypatch: pytest.MonkeyPatch) -> Updates:
    """Updates of the map of unhooked sources, which handlers read: map, key, value."""
    updates: Updates = []
    monkeypatch.setattr(nft_probes, "map_update", lambda *update: updates.append(update))
    return updates


class FakeBuild:
    """A fake child process that builds the handlers of a source.

    Args:
        source: the source.
        displays: functions in /proc/kallsyms; if empty, all that the source names.
    """

    def __init__(self, source: VerdictSource, displays: Sequence[str]) -> None:
        self.source = source
        self.displays = displays
        self.done = False
        self.closed = False
        self.error: PypwruError | None = None

    def is_done(self) -> bool:
        return self.done

    def result(self) -> BuiltHandlers | None:
        if self.error:
            raise self.error
        return BuiltHandlers(symbols(*(self.displays or sorted(self.source.symbols))), {})

    def close(self) -> None:
        self.closed = True


class RecordingProbes(NftProbes):
    """Record the sources instead of attaching to them."""

    def __init__(self, log: Log | None = None) -> None:
        choice = BackendPlan(AttachPlan(Backend.KPROBE, {}), symbols(), "")
        self.stack = ExitStack()
        loader = Loader({}, {}, {}, {}, self.stack)
        arguments = (
            choice,
            loader,
            self.no_compile,
            self.start_build,
            AttachReport(),
            log or Log(None),
        )
        super().__init__(*arguments, self.stack, UNHOOKED_FD)
        self.attached: list[str] = []
        self.refuse = False
        self.displays: Sequence[str] = ()
        self.builds: list[FakeBuild] = []

    def no_compile(self, *_: object) -> Bytecode:
        return {}

    def start_build(self, source: VerdictSource) -> HandlerBuild:
        self.builds.append(FakeBuild(source, self.displays))
        return cast("HandlerBuild", self.builds[-1])

    def finish_builds(self) -> None:
        for build in self.builds:
            build.done = True

    def _attach_source(
        self, source: VerdictSource, symbols: Symbols, bytecode: Bytecode | None = None
    ) -> None:
        if self.refuse:
            raise KernelError("no")
        self.attached.append(source.modules[0])


def test_late_module_is_attached_once(monkeypatch: pytest.MonkeyPatch) -> None:
    instances: dict[str, int] = {}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: instances.get(module, 0))
    probes = RecordingProbes()

    def poll() -> None:
        probes.poll()
        probes.finish_builds()
        probes.poll()
        probes.poll()

    probes.attach(symbols("ip_rcv"))
    poll()
    assert probes.attached == []
    instances |= {"ip_tables": 7}
    poll()
    assert probes.attached == ["ip_tables"]
    instances |= {"ip_tables": 8, "nf_tables": 9}
    poll()
    assert probes.attached == ["ip_tables", "nf_tables", "ip_tables"]
    del instances["ip_tables"]
    poll()
    instances["ip_tables"] = 10
    poll()
    assert probes.attached[3:] == ["ip_tables"]
    assert all(build.closed for build in probes.builds)


def test_poll_does_not_wait_for_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = {"ip_tables": 7}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: instances.get(module, 0))
    probes = RecordingProbes()
    probes.poll()
    probes.poll()
    (first,) = probes.builds
    assert not first.closed and not probes.attached
    instances["ip_tables"] = 8  # loaded again, at other addresses
    probes.poll()
    _, second = probes.builds
    assert first.closed and not second.closed
    second.done = True
    probes.poll()
    assert second.closed and probes.attached == ["ip_tables"]


def test_unloaded_module_cancels_build(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = {"ip_tables": 7}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: instances.get(module, 0))
    probes = RecordingProbes()
    probes.poll()
    del instances["ip_tables"]
    probes.finish_builds()
    probes.poll()
    assert probes.builds[0].closed and not probes.attached


def test_close_cancels_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    probes = RecordingProbes()
    probes.poll()
    probes.stack.close()
    assert probes.builds[0].closed


def test_failed_build_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    stream = io.StringIO()
    probes = RecordingProbes(Log(stream))
    probes.poll()
    probes.builds[0].error = BuildError("BCC is missing")
    probes.finish_builds()
    probes.poll()
    probes.poll()
    assert stream.getvalue().count("WARN Can't trace verdicts of iptables-legacy (ip_tables)") == 1
    assert probes.builds[0].closed


def test_attached_module_is_not_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    probes = RecordingProbes()
    probes.attach(symbols("ipt_do_table[ip_tables]"))
    probes.poll()
    assert probes.attached == ["ip_tables"] and not probes.builds


def test_failed_enable_builds_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback, hooks of expressions, is built then."""

    @contextmanager
    def fail_enable(functions: Sequence[Function]) -> Iterator[None]:
        raise KernelError("no namespaces left")
        yield

    (failing,) = (
        source._replace(enable=fail_enable) for source in VERDICT_SOURCES if source is NFT
    )
    monkeypatch.setattr(nft_probes, "VERDICT_SOURCES", [failing])
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"nf_tables": 7}.get(module, 0)
    )
    monkeypatch.setattr(RecordingProbes, "_attach_source", NftProbes._attach_source)
    probes = RecordingProbes()
    probes.poll()
    probes.finish_builds()
    probes.poll()
    assert [build.source.unit for build in probes.builds] == [
        "nft/nft.bpf.c",
        "nft/nft_eval.bpf.c",
    ]
    assert [build.closed for build in probes.builds] == [True, False]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ([], ["INFO Attached to nftables"]),
        (
            ["nft_do_chain"],
            [
                "WARN Can't trace verdicts of nftables why=\"the kernel refused a probe on "
                'nft_do_chain: Invalid argument"'
            ],
        ),
        (
            ["__nft_trace_packet"],
            [
                "WARN Can't trace all verdicts of nftables function=__nft_trace_packet "
                'why="Invalid argument"',
                "INFO Attached to nftables ignored=1",
            ],
        ),
    ],
)
def test_log_of_attaching(
    refused: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def fake_attach(
        choice: BackendPlan, plan: AttachPlan, loader: Loader, report: AttachReport, log: Log
    ) -> Iterator[None]:
        report.ignored += [(name, "Invalid argument") for name in refused]
        try:
            yield
        finally:
            detached.append(True)

    detached: list[bool] = []
    monkeypatch.setattr(nft_probes, "attach_extra", fake_attach)
    monkeypatch.setattr(
        nft_probes, "VERDICT_SOURCES", (NFT._replace(enable=lambda functions: nullcontext()),)
    )
    stream = io.StringIO()
    choice = BackendPlan(AttachPlan(Backend.KPROBE, {}), symbols(), "")
    with ExitStack() as stack:
        loader = Loader({}, {}, {}, {}, stack)
        helper = RecordingProbes()
        arguments = (
            choice,
            loader,
            helper.no_compile,
            helper.start_build,
            AttachReport(),
            Log(stream),
            stack,
        )
        probes = NftProbes(*arguments, UNHOOKED_FD)
        probes.attach(symbols("nft_do_chain", "__nft_trace_packet"))
        assert detached == [True] * (refused == ["nft_do_chain"]), "it keeps nothing of a failure"
    lines = [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()]
    assert lines == expected


def test_refused_source_is_marked_unhooked(
    unhooked_updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a drop would be reported as of no rule."""
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: 0)
    probes = RecordingProbes()
    probes.attach(symbols("ipt_do_table"))
    assert not unhooked_updates
    probes.refuse = True
    probes.attach(symbols("ipt_do_table"))
    ((fd, key, value),) = unhooked_updates
    assert (fd, key) == (UNHOOKED_FD, bytes(4))
    assert any(value) and len(value) == MAPS["nft_unhooked"].value


def test_reload_marks_source_hooked(
    unhooked_updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an unload does, since a source that isn't loaded gives no verdicts."""
    instances = {"ip_tables": 7}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: instances.get(module, 0))
    probes = RecordingProbes()
    probes.refuse = True
    probes.attach(symbols("ipt_do_table[ip_tables]"))
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True]
    instances["ip_tables"] = 8
    probes.poll()
    probes.refuse = False
    probes.finish_builds()
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True, False]
    probes.refuse = True
    instances["ip_tables"] = 9
    probes.poll()
    probes.finish_builds()
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True, False, True]
    del instances["ip_tables"]
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True, False, True, False]


def test_built_in_source_stays_unhooked(
    unhooked_updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A built-in module may have no directory in /sys/module, as if it weren't loaded."""
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: 0 if module else 1)
    probes = RecordingProbes()
    probes.refuse = True
    probes.attach(symbols("ipt_do_table"))
    probes.poll()
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True]


class FakeKernel:
    """A fake kernel, whose attach_extra() records functions, and ignores or fails on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *sources: VerdictSource) -> None:
        self.instances = {"": 1}
        self.fail = False
        self.refused: set[str] = set()
        self.attached: list[list[str]] = []
        monkeypatch.setattr(nft_probes, "attach_extra", self.attach_extra)
        monkeypatch.setattr(
            nft_probes, "module_instance_id", lambda name: self.instances.get(name, 0)
        )
        monkeypatch.setattr(nft_probes, "VERDICT_SOURCES", sources)
        monkeypatch.setattr(RecordingProbes, "_attach_source", NftProbes._attach_source)

    @contextmanager
    def attach_extra(
        self, choice: BackendPlan, plan: AttachPlan, loader: Loader, report: AttachReport, log: Log
    ) -> Iterator[None]:
        if self.fail:
            raise KernelError("no memory")
        names = [function.display for function in plan.functions]
        self.attached.append(names)
        report.ignored += [(name, "Invalid argument") for name in names if name in self.refused]
        yield


def poll_and_build(probes: RecordingProbes) -> None:
    probes.poll()
    probes.finish_builds()
    probes.poll()


EVAL_SOURCE = VerdictSource(
    "evals",
    ("nf_tables", "nft_queue"),
    ("nft_do_chain", "nft_queue_eval"),
    lambda functions: {Handler("nft_expr_entry"): tuple(functions)},
    "nft/nft_eval.bpf.c",
)
EVAL_FUNCTIONS = "nft_do_chain[nf_tables]", "nft_queue_eval[nft_queue]"


def test_next_module_retries_failed_attach(
    unhooked_updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel(monkeypatch, EVAL_SOURCE)
    kernel.instances["nf_tables"] = 7
    kernel.fail = True
    probes = RecordingProbes()
    probes.displays = EVAL_FUNCTIONS
    probes.attach(symbols("nft_do_chain[nf_tables]"))
    kernel.fail = False
    kernel.instances["nft_queue"] = 8
    poll_and_build(probes)
    assert kernel.attached == [list(EVAL_FUNCTIONS)]
    kernel.instances["nft_queue"] = 9
    poll_and_build(probes)
    assert kernel.attached[1:] == [["nft_queue_eval[nft_queue]"]], "the other one is hooked"
    assert not any(unhooked_updates[-1][2])


def test_unload_unmarks_refused_function(
    unhooked_updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel(monkeypatch, EVAL_SOURCE)
    kernel.instances |= {"nf_tables": 7, "nft_queue": 8}
    kernel.refused = {"nft_queue_eval[nft_queue]"}
    probes = RecordingProbes()
    probes.displays = EVAL_FUNCTIONS
    probes.attach(symbols(*EVAL_FUNCTIONS))
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True]
    del kernel.instances["nft_queue"]
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True, False]
    kernel.instances["nft_queue"] = 9
    poll_and_build(probes)
    assert kernel.attached[1:] == [["nft_queue_eval[nft_queue]"]]
    assert any(unhooked_updates[-1][2]), "it is refused again"
    kernel.instances["nft_queue"], kernel.refused = 10, set()
    poll_and_build(probes)
    assert not any(unhooked_updates[-1][2])


def test_source_is_unhooked_while_building(
    unhooked_updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    probes = RecordingProbes()
    probes.poll()
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True]
    probes.finish_builds()
    probes.poll()
    assert [any(value) for *_, value in unhooked_updates] == [True, False]
