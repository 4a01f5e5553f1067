"""Who judges packets: what is hooked of it, how it is called, and when it is looked for."""

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
    """One with ``ipt_do_table`` of these arguments, or without types of it."""
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
def test_the_prototype_tells_where_the_packet_is(arguments: tuple[str, ...], first: str) -> None:
    types = XtTypes(kernel(*arguments), NO_MODULE, "ipt_do_table")
    assert types.macros == {"XT_SKB_FIRST": first}


def test_what_is_built_in_has_the_types_of_vmlinux() -> None:
    built_in = kernel("priv", "skb", "state")
    assert XtTypes(built_in, "", "ipt_do_table").macros == {"XT_SKB_FIRST": "0"}


def test_types_come_before_memory() -> None:
    encoder = Encoder()
    octet = encoder.integer("char", 1)
    encoder.struct("xt_table", 64, ("name", octet, 8 * 24))
    types = XtTypes(BTF(parse(encoder.bytes())), NO_MODULE, "ipt_do_table")
    for struct, path, offset in (("xt_table", "name", 24), ("ebt_table", "name", 16)):
        field = types.member(struct, path)
        assert field is not None
        assert field.offset == offset
    assert types.member("xt_table", "nonsense") is None


def test_a_module_is_told_from_what_is_built_in() -> None:
    both = symbols("nft_do_chain", "__nft_trace_packet", "ipt_do_table[ip_tables]")
    assert [function.display for function in NFT.find_functions(both)] == [
        "nft_do_chain",
        "__nft_trace_packet",
    ]
    (function,) = IP.find_functions(both)
    assert (function.module, function.addresses) == ("ip_tables", (48,))
    assert [judge.name for judge in VERDICT_SOURCES if judge.find_functions(both)] == [
        NFT.name,
        IP.name,
    ]


def test_every_judge_finds_its_own_symbols_and_hooks_all_of_them() -> None:
    others = [judge.fallback[0] for judge in VERDICT_SOURCES if judge.fallback]
    for judge in (*VERDICT_SOURCES, *others):
        functions = judge.find_functions(symbols(*judge.functions))
        assert [each.name for each in functions] == list(judge.functions)
        groups = judge.group_functions(functions)
        assert {hooked for group in groups.values() for hooked in group} == set(functions)


UNHOOKED = 7  # a descriptor
Noted = list[tuple[int, bytes, bytes]]


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """What the handlers were told of those that aren't hooked: map, key, value."""
    updates: Noted = []
    monkeypatch.setattr(nft_probes, "map_update", lambda *update: updates.append(update))
    return updates


class FakeMaking:
    """Stands in for a child that makes what is attached to a judge.

    Args:
        judge: the judge.
        displays: what kallsyms has; empty for all that the judge looks for.
    """

    def __init__(self, judge: VerdictSource, displays: Sequence[str]) -> None:
        self.judge = judge
        self.displays = displays
        self.over = False
        self.closed = False
        self.error: PypwruError | None = None

    def is_done(self) -> bool:
        return self.over

    def result(self) -> BuiltHandlers | None:
        if self.error:
            raise self.error
        return BuiltHandlers(symbols(*(self.displays or sorted(self.judge.symbols))), {})

    def close(self) -> None:
        self.closed = True


class Probes(NftProbes):
    """Notes what it would attach."""

    def __init__(self, log: Log | None = None) -> None:
        choice = BackendPlan(AttachPlan(Backend.KPROBE, {}), symbols(), "")
        self.stack = ExitStack()
        loader = Loader({}, {}, {}, {}, self.stack)
        arguments = choice, loader, self.no_compile, self.make, AttachReport(), log or Log(None)
        super().__init__(*arguments, self.stack, UNHOOKED)
        self.attached: list[str] = []
        self.refuses = False
        self.displays: Sequence[str] = ()
        self.makings: list[FakeMaking] = []

    def no_compile(self, *_: object) -> Bytecode:
        return {}

    def make(self, judge: VerdictSource) -> HandlerBuild:
        self.makings.append(FakeMaking(judge, self.displays))
        return cast("HandlerBuild", self.makings[-1])

    def let_all_end(self) -> None:
        for making in self.makings:
            making.over = True

    def _attach_source(
        self, source: VerdictSource, symbols: Symbols, bytecode: Bytecode | None = None
    ) -> None:
        if self.refuses:
            raise KernelError("no")
        self.attached.append(source.modules[0])


def test_who_comes_later_or_again_is_attached_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: dict[str, int] = {}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: loads.get(module, 0))
    probes = Probes()

    def poll() -> None:
        probes.poll()
        probes.let_all_end()
        probes.poll()
        probes.poll()

    probes.attach(symbols("ip_rcv"))
    poll()
    assert probes.attached == []
    loads |= {"ip_tables": 7}
    poll()
    assert probes.attached == ["ip_tables"]
    loads |= {"ip_tables": 8, "nf_tables": 9}
    poll()
    assert probes.attached == ["ip_tables", "nf_tables", "ip_tables"]
    del loads["ip_tables"]
    poll()
    loads["ip_tables"] = 10
    poll()
    assert probes.attached[3:] == ["ip_tables"]
    assert all(making.closed for making in probes.makings)


def test_nobody_waits_for_what_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = {"ip_tables": 7}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: loads.get(module, 0))
    probes = Probes()
    probes.poll()
    probes.poll()
    (first,) = probes.makings
    assert not first.closed and not probes.attached
    loads["ip_tables"] = 8  # another load: its addresses are others
    probes.poll()
    _, second = probes.makings
    assert first.closed and not second.closed
    second.over = True
    probes.poll()
    assert second.closed and probes.attached == ["ip_tables"]


def test_who_goes_while_it_is_made_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = {"ip_tables": 7}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: loads.get(module, 0))
    probes = Probes()
    probes.poll()
    del loads["ip_tables"]
    probes.let_all_end()
    probes.poll()
    assert probes.makings[0].closed and not probes.attached


def test_nothing_is_made_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    probes = Probes()
    probes.poll()
    probes.stack.close()
    assert probes.makings[0].closed


def test_what_cannot_be_made_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    said = io.StringIO()
    probes = Probes(Log(said))
    probes.poll()
    probes.makings[0].error = BuildError("BCC is missing")
    probes.let_all_end()
    probes.poll()
    probes.poll()
    assert said.getvalue().count("WARN Can't trace verdicts of iptables-legacy (ip_tables)") == 1
    assert probes.makings[0].closed


def test_who_was_there_is_not_taken_for_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    probes = Probes()
    probes.attach(symbols("ipt_do_table[ip_tables]"))
    probes.poll()
    assert probes.attached == ["ip_tables"] and not probes.makings


def test_another_is_made_for_who_does_not_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expressions are hooked instead, which is made then."""

    @contextmanager
    def no_key(functions: Sequence[Function]) -> Iterator[None]:
        raise KernelError("no namespaces left")
        yield

    (silent,) = (judge._replace(enable=no_key) for judge in VERDICT_SOURCES if judge is NFT)
    monkeypatch.setattr(nft_probes, "VERDICT_SOURCES", [silent])
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"nf_tables": 7}.get(module, 0)
    )
    monkeypatch.setattr(Probes, "_attach_source", NftProbes._attach_source)
    probes = Probes()
    probes.poll()
    probes.let_all_end()
    probes.poll()
    assert [making.judge.unit for making in probes.makings] == [
        "nft/nft.bpf.c",
        "nft/nft_eval.bpf.c",
    ]
    assert [making.closed for making in probes.makings] == [True, False]


@pytest.mark.parametrize(
    ("refused", "said"),
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
def test_what_is_said_is_so(
    refused: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def probed(
        choice: BackendPlan, plan: AttachPlan, loader: Loader, report: AttachReport, log: Log
    ) -> Iterator[None]:
        report.ignored += [(name, "Invalid argument") for name in refused]
        try:
            yield
        finally:
            undone.append(True)

    undone: list[bool] = []
    monkeypatch.setattr(nft_probes, "attach_extra", probed)
    monkeypatch.setattr(
        nft_probes, "VERDICT_SOURCES", (NFT._replace(enable=lambda functions: nullcontext()),)
    )
    written = io.StringIO()
    choice = BackendPlan(AttachPlan(Backend.KPROBE, {}), symbols(), "")
    with ExitStack() as stack:
        loader = Loader({}, {}, {}, {}, stack)
        others = Probes()
        arguments = (
            choice,
            loader,
            others.no_compile,
            others.make,
            AttachReport(),
            Log(written),
            stack,
        )
        own = NftProbes(*arguments, UNHOOKED)
        own.attach(symbols("nft_do_chain", "__nft_trace_packet"))
        assert undone == [True] * (refused == ["nft_do_chain"]), "it keeps nothing of a failure"
    lines = [line.split(" ", 2)[2] for line in written.getvalue().splitlines()]
    assert lines == said


def test_what_cannot_be_hooked_is_noted_for_the_handlers(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no drop is said to be nobody's rule's."""
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: 0)
    probes = Probes()
    probes.attach(symbols("ipt_do_table"))
    assert not noted
    probes.refuses = True
    probes.attach(symbols("ipt_do_table"))
    ((fd, key, value),) = noted
    assert (fd, key) == (UNHOOKED, bytes(4))
    assert any(value) and len(value) == MAPS["nft_unhooked"].value


def test_who_is_hooked_after_a_failure_is_noted_for_the_handlers(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a reload of its module; a source that is gone gives no verdicts."""
    loads = {"ip_tables": 7}
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: loads.get(module, 0))
    probes = Probes()
    probes.refuses = True
    probes.attach(symbols("ipt_do_table[ip_tables]"))
    probes.poll()
    assert [any(value) for *_, value in noted] == [True]
    loads["ip_tables"] = 8
    probes.poll()
    probes.refuses = False
    probes.let_all_end()
    probes.poll()
    assert [any(value) for *_, value in noted] == [True, False]
    probes.refuses = True
    loads["ip_tables"] = 9
    probes.poll()
    probes.let_all_end()
    probes.poll()
    assert [any(value) for *_, value in noted] == [True, False, True]
    del loads["ip_tables"]
    probes.poll()
    assert [any(value) for *_, value in noted] == [True, False, True, False]


def test_a_failure_of_what_is_built_in_is_for_the_run(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A built-in module may have no directory in /sys/module, as if it weren't loaded."""
    monkeypatch.setattr(nft_probes, "module_instance_id", lambda module: 0 if module else 1)
    probes = Probes()
    probes.refuses = True
    probes.attach(symbols("ipt_do_table"))
    probes.poll()
    probes.poll()
    assert [any(value) for *_, value in noted] == [True]


class Kernel:
    """Attaches, as attach_extra() does, and refuses what it is to refuse."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *sources: VerdictSource) -> None:
        self.loads = {"": 1}
        self.fails = False
        self.refused: set[str] = set()
        self.attached: list[list[str]] = []
        monkeypatch.setattr(nft_probes, "attach_extra", self.attach_extra)
        monkeypatch.setattr(nft_probes, "module_instance_id", lambda name: self.loads.get(name, 0))
        monkeypatch.setattr(nft_probes, "VERDICT_SOURCES", sources)
        monkeypatch.setattr(Probes, "_attach_source", NftProbes._attach_source)

    @contextmanager
    def attach_extra(
        self, choice: BackendPlan, plan: AttachPlan, loader: Loader, report: AttachReport, log: Log
    ) -> Iterator[None]:
        if self.fails:
            raise KernelError("no memory")
        names = [function.display for function in plan.functions]
        self.attached.append(names)
        report.ignored += [(name, "Invalid argument") for name in names if name in self.refused]
        yield


def poll_and_build(probes: Probes) -> None:
    probes.poll()
    probes.let_all_end()
    probes.poll()


EVALS = VerdictSource(
    "evals",
    ("nf_tables", "nft_queue"),
    ("nft_do_chain", "nft_queue_eval"),
    lambda functions: {Handler("nft_expr_entry"): tuple(functions)},
    "nft/nft_eval.bpf.c",
)
EVAL_DISPLAYS = "nft_do_chain[nf_tables]", "nft_queue_eval[nft_queue]"


def test_a_failed_attach_is_tried_again_with_the_next_module(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch, EVALS)
    kernel.loads["nf_tables"] = 7
    kernel.fails = True
    probes = Probes()
    probes.displays = EVAL_DISPLAYS
    probes.attach(symbols("nft_do_chain[nf_tables]"))
    kernel.fails = False
    kernel.loads["nft_queue"] = 8
    poll_and_build(probes)
    assert kernel.attached == [list(EVAL_DISPLAYS)]
    kernel.loads["nft_queue"] = 9
    poll_and_build(probes)
    assert kernel.attached[1:] == [["nft_queue_eval[nft_queue]"]], "the other one is hooked"
    assert not any(noted[-1][2])


def test_a_refused_function_is_noted_while_its_module_is_loaded(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch, EVALS)
    kernel.loads |= {"nf_tables": 7, "nft_queue": 8}
    kernel.refused = {"nft_queue_eval[nft_queue]"}
    probes = Probes()
    probes.displays = EVAL_DISPLAYS
    probes.attach(symbols(*EVAL_DISPLAYS))
    probes.poll()
    assert [any(value) for *_, value in noted] == [True]
    del kernel.loads["nft_queue"]
    probes.poll()
    assert [any(value) for *_, value in noted] == [True, False]
    kernel.loads["nft_queue"] = 9
    poll_and_build(probes)
    assert kernel.attached[1:] == [["nft_queue_eval[nft_queue]"]]
    assert any(noted[-1][2]), "it is refused again"
    kernel.loads["nft_queue"], kernel.refused = 10, set()
    poll_and_build(probes)
    assert not any(noted[-1][2])


def test_who_comes_late_is_not_hooked_while_it_is_made(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        nft_probes, "module_instance_id", lambda module: {"ip_tables": 7}.get(module, 0)
    )
    probes = Probes()
    probes.poll()
    probes.poll()
    assert [any(value) for *_, value in noted] == [True]
    probes.let_all_end()
    probes.poll()
    assert [any(value) for *_, value in noted] == [True, False]
