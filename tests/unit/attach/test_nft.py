"""Who judges packets: what is hooked of it, how it is called, and when it is looked for."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import pytest

from pypwru.attach import nft
from pypwru.attach.attached import Attached
from pypwru.attach.backend import Choice
from pypwru.attach.judges import JUDGES, Judge
from pypwru.attach.nft import NftProbes
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.config import Backend
from pypwru.discovery.plan import AttachPlan
from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import Symbols
from pypwru.kernel.xt_types import XtTypes
from pypwru.log import Log
from pypwru.program.build import Bytecode
from pypwru.program.load import Loader
from pypwru.program.maps import MAPS
from tests.data.btf_encoder import Encoder

NFT, IP, *_ = JUDGES
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
    assert [function.display for function in NFT.found(both)] == [
        "nft_do_chain",
        "__nft_trace_packet",
    ]
    (function,) = IP.found(both)
    assert (function.module, function.addresses) == ("ip_tables", (48,))
    assert [judge.name for judge in JUDGES if judge.found(both)] == [NFT.name, IP.name]


def test_every_judge_finds_its_own_symbols_and_hooks_all_of_them() -> None:
    others = [judge.instead[0] for judge in JUDGES if judge.instead]
    for judge in (*JUDGES, *others):
        functions = judge.found(symbols(*judge.functions))
        assert [each.name for each in functions] == list(judge.functions)
        groups = judge.groups(functions)
        assert {hooked for group in groups.values() for hooked in group} == set(functions)


UNHOOKED = 7  # a descriptor


class Probes(NftProbes):
    """Notes what it would attach."""

    def __init__(self) -> None:
        choice = Choice(AttachPlan(Backend.KPROBE, {}), symbols(), "")
        stack = ExitStack()
        loader = Loader({}, {}, {}, {}, stack)
        super().__init__(choice, loader, self.no_compile, Attached(), Log(None), stack, UNHOOKED)
        self.attached: list[str] = []
        self.refuses = False

    def no_compile(self, *_: object) -> Bytecode:
        return {}

    def _attach(self, judge: Judge, symbols: Symbols) -> None:
        if self.refuses:
            raise KernelError("no")
        self.attached.append(judge.modules[0])


def test_who_comes_later_or_again_is_attached_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: dict[str, int] = {}
    monkeypatch.setattr(nft, "load_of", lambda module: loads.get(module, 0))
    monkeypatch.setattr(nft, "read_symbols", lambda wanted: symbols(*sorted(wanted)))
    probes = Probes()
    probes.attach(symbols("ip_rcv"))
    probes.poll()
    assert probes.attached == []
    loads |= {"ip_tables": 7}
    probes.poll()
    probes.poll()
    assert probes.attached == ["ip_tables"]
    loads |= {"ip_tables": 8, "nf_tables": 9}
    probes.poll()
    assert probes.attached == ["ip_tables", "nf_tables", "ip_tables"]
    del loads["ip_tables"]
    probes.poll()
    loads["ip_tables"] = 10
    probes.poll()
    assert probes.attached[3:] == ["ip_tables"]


def test_who_was_there_is_not_taken_for_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "load_of", lambda module: {"ip_tables": 7}.get(module, 0))
    monkeypatch.setattr(nft, "read_symbols", lambda wanted: symbols(*sorted(wanted)))
    probes = Probes()
    probes.attach(symbols("ipt_do_table[ip_tables]"))
    probes.poll()
    assert probes.attached == ["ip_tables"]


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ([], ["INFO Attached to nftables"]),
        (
            ["nft_do_chain"],
            [
                "WARN Can't tell what nftables says why=\"the kernel refused a probe on "
                'nft_do_chain: Invalid argument"'
            ],
        ),
        (
            ["__nft_trace_packet"],
            [
                "WARN Can't tell all that nftables says function=__nft_trace_packet "
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
        choice: Choice, plan: AttachPlan, loader: Loader, report: Attached, log: Log
    ) -> Iterator[None]:
        report.ignored += [(name, "Invalid argument") for name in refused]
        try:
            yield
        finally:
            undone.append(True)

    undone: list[bool] = []
    monkeypatch.setattr(nft, "probed", probed)
    monkeypatch.setattr(nft, "JUDGES", (NFT._replace(key=lambda functions: nullcontext()),))
    written = io.StringIO()
    choice = Choice(AttachPlan(Backend.KPROBE, {}), symbols(), "")
    with ExitStack() as stack:
        loader = Loader({}, {}, {}, {}, stack)
        own = NftProbes(choice, loader, lambda *_: {}, Attached(), Log(written), stack)
        own.attach(symbols("nft_do_chain", "__nft_trace_packet"))
        assert undone == [True] * (refused == ["nft_do_chain"]), "it keeps nothing of a failure"
    lines = [line.split(" ", 2)[2] for line in written.getvalue().splitlines()]
    assert lines == said


def test_what_cannot_be_hooked_is_noted_for_the_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no drop is said to be nobody's rule's."""
    noted: list[tuple[int, bytes, bytes]] = []
    monkeypatch.setattr(nft, "map_update", lambda *update: noted.append(update))
    monkeypatch.setattr(nft, "load_of", lambda module: 0)
    probes = Probes()
    probes.attach(symbols("ipt_do_table"))
    assert not noted
    probes.refuses = True
    probes.attach(symbols("ipt_do_table"))
    ((fd, key, value),) = noted
    assert (fd, key) == (UNHOOKED, bytes(4))
    assert any(value) and len(value) == MAPS["nft_unhooked"].value
