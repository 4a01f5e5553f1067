"""The table of features, and its probes by stand-ins for the kernel; tests/lab has real kernels."""

from __future__ import annotations

import errno
import os
import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pypwru.attach.kernel_switches import SWITCHES, Switch
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.errors import BTFError, KernelError
from pypwru.features import rows
from pypwru.features.rows import FEATURES
from pypwru.kernel import bpf, pseudofs
from pypwru.kernel.feature import Feature, Undetermined
from pypwru.kernel.kallsyms import Symbols
from pypwru.kernel.lockdown import Lockdown
from tests.data.btf_encoder import Encoder

BY_NAME = {feature.name: feature for feature in FEATURES}
NFT = ("nft_do_chain[nf_tables]", "__nft_trace_packet[nf_tables]")


class Kernel:
    """A kernel with these functions, and with or without kprobes."""

    kernel_btf: Path | None = None

    def __init__(
        self, *functions: str, has_kprobes: bool = True, encoder: Encoder | None = None
    ) -> None:
        addresses = range(4096, 4096 + 16 * len(functions), 16)
        self.verdict_symbols = Symbols(list(functions), array("Q", addresses))
        self.btf = BTF(parse((encoder or Encoder()).bytes()))
        self._has_kprobes = has_kprobes

    def require_kprobes(self) -> None:
        if not self._has_kprobes:
            raise KernelError("it needs kprobes, which are not available", "see the backends")


def probe(name: str, kernel: Kernel) -> str:
    return BY_NAME[name].probe(kernel)


def refuse(code: int) -> Callable[..., Any]:
    def call(*arguments: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(FEATURES)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_row_is_complete(feature: Feature) -> None:
    """A lack has a cost, and a cure: the row's, that of its version, or that of the probe."""
    assert re.fullmatch(r"|[4-9]\.\d+", feature.since)
    assert all(option.startswith("CONFIG_") for option in feature.options)
    assert feature.cost and "\n" not in feature.cost + feature.cure
    assert not feature.cost.endswith(".") and "; " not in feature.cost


def test_module_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "module_names", list)
    with pytest.raises(KernelError, match="no files of modules"):
        probe("BTF of modules", Kernel())
    encoder = Encoder()
    encoder.struct("btf_module", 8, ("list", encoder.integer("u64", 8), 0))
    assert probe("BTF of modules", Kernel(encoder=encoder)) == ""
    monkeypatch.setattr(rows, "module_names", lambda: ["nf_tables"])
    assert probe("BTF of modules", Kernel()) == ""


def test_refused_ring_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "lift_memlock", lambda: None)
    monkeypatch.setattr(bpf, "map_create", refuse(errno.EINVAL))
    with pytest.raises(KernelError, match=r"refuses the map \(Invalid argument\)"):
        probe("BPF ring buffer", Kernel())


def test_missing_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "own_netns_cookie", refuse(errno.ENOPROTOOPT))
    with pytest.raises(KernelError, match="SO_NETNS_COOKIE is refused"):
        probe("cookies of network namespaces", Kernel())


def test_missing_call_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudofs, "open_file", refuse(errno.ENOENT))
    with pytest.raises(KernelError, match="can't open available_filter_functions_addrs"):
        probe("addresses of traceable functions", Kernel())


def test_enums_of_btf() -> None:
    with pytest.raises(BTFError, match="no enum skb_drop_reason"):
        probe("drop reasons", Kernel())
    with pytest.raises(Undetermined, match="doesn't name its helpers"):
        probe("structs as text", Kernel())
    encoder = Encoder()
    encoder.enum("skb_drop_reason", {"SKB_NOT_DROPPED_YET": 0})
    encoder.enum("bpf_func_id", {"BPF_FUNC_unspec": 0})
    assert probe("drop reasons", Kernel(encoder=encoder)) == ""
    with pytest.raises(KernelError, match=r"no helper bpf_snprintf_btf\(\)"):
        probe("structs as text", Kernel(encoder=encoder))


@pytest.mark.parametrize(
    ("level", "remark"), [(Lockdown.NONE, "none"), (Lockdown.INTEGRITY, "integrity")]
)
def test_lockdown(monkeypatch: pytest.MonkeyPatch, level: Lockdown, remark: str) -> None:
    monkeypatch.setattr(rows, "level", lambda: level)
    monkeypatch.setattr(rows, "require_kernel_reads", lambda: None)
    assert probe("kernel memory readable by BPF", Kernel()) == f"lockdown is {remark}"
    monkeypatch.setattr(rows, "level", lambda: Lockdown.UNKNOWN)
    with pytest.raises(Undetermined):
        probe("kernel memory readable by BPF", Kernel())


def test_switches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "switch"
    name = f"{SWITCHES[0].name} switched on"
    monkeypatch.setattr(Switch, "open", lambda switch: os.open(file, os.O_RDONLY))
    assert probe(name, Kernel()) == "this kernel has no such switch"
    file.write_text("1\n")
    assert probe(name, Kernel()) == ""
    file.write_text("0\n")
    with pytest.raises(KernelError, match=r"/kprobes/enabled is 0"):
        probe(name, Kernel())
    assert BY_NAME[name].cost == "these backends have no events: kprobe"
    monkeypatch.setattr(Switch, "open", refuse(errno.EPERM))
    with pytest.raises(Undetermined):
        probe(name, Kernel())


def test_nothing_is_loaded_to_look_for_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypwru.nft.verdict_sources.enable_nft_tracing", pytest.fail)
    for name in ("nftables", "nftables trace events"):
        with pytest.raises(Undetermined, match=r"^nf_tables is not loaded$"):
            probe(name, Kernel("ip_rcv"))
    with pytest.raises(Undetermined, match=r"^not loaded: ip_tables, ip6_tables, arp_tables, ebt"):
        probe("iptables-legacy, ebtables", Kernel("ip_rcv"))


def test_rules_need_kprobes() -> None:
    kernel = Kernel(*NFT, "ipt_do_table[ip_tables]", has_kprobes=False)
    for name in ("nftables", "nftables trace events", "iptables-legacy, ebtables"):
        with pytest.raises(KernelError, match="needs kprobes"):
            probe(name, kernel)


def test_nft_trace_events_are_enabled_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []

    @contextmanager
    def enable() -> Iterator[int]:
        states.append("on")
        yield 0
        states.append("off")

    monkeypatch.setattr("pypwru.nft.verdict_sources.enable_nft_tracing", enable)
    assert probe("nftables trace events", Kernel(*NFT)) == ""
    assert states == ["on", "off"]
    with pytest.raises(KernelError, match="no symbol __nft_trace_packet"):
        probe("nftables trace events", Kernel(NFT[0]))


def test_rules_need_types_of_their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypwru.nft.types.is_debian_5_10", lambda: False)
    kernel = Kernel("nft_do_chain", "ipt_do_table")
    for name in ("nftables", "iptables-legacy, ebtables"):
        with pytest.raises(KernelError, match=r"^module .* has no BTF; boot a kernel with CONFIG_"):
            probe(name, kernel)


def test_conntrack_has_the_cure_of_its_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder()
    encoder.struct("sk_buff", 16, ("_nfct", encoder.integer("unsigned long", 8), 64))
    monkeypatch.setattr("pypwru.program.conntrack_types.module_names", lambda folder: [])
    with pytest.raises(KernelError) as caught:
        probe("conntrack", Kernel(encoder=encoder))
    assert caught.value.cure == "modprobe nf_conntrack, and start pypwru again"
