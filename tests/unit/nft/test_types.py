"""Layouts of modules' structs, on kernels without BTF of modules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypwru.bpf_sources import NFT, XTABLES
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.discovery.functions import Function
from pypwru.errors import BTFError
from pypwru.nft.build import build_unit
from pypwru.nft.types import require_types
from pypwru.nft.xt_types import XtTypes
from tests.data.btf_encoder import Encoder

DEBIAN = "5.10.0-36-amd64", "#1 SMP Debian 5.10.244-1 (2025-09-29)"
OTHER_KERNELS = (
    ("5.10.244", "#1 SMP PREEMPT Mon Sep 29 12:00:00 UTC 2025"),
    ("5.10.244-custom", "#1 SMP Debian 5.9.1-1 (2020-10-17)"),
    ("6.1.0-40-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1 (2025-09-20)"),
)
NO_MODULE = "no_such_module"


def set_uname(monkeypatch: pytest.MonkeyPatch, release: str, version: str) -> None:
    system = os.uname_result(("Linux", "host", release, version, "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: system)


def test_debian_5_10_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    set_uname(monkeypatch, *DEBIAN)
    require_types("nf_tables", has_btf=False)


@pytest.mark.parametrize(("release", "version"), OTHER_KERNELS)
def test_other_kernels_need_btf(
    release: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_uname(monkeypatch, release, version)
    require_types("nf_tables", has_btf=True)
    with pytest.raises(BTFError, match=r"^module nf_tables has no BTF, and without it only Debian"):
        require_types("nf_tables", has_btf=False)


@pytest.mark.parametrize(
    ("unit", "name"), [(NFT, "nft_do_chain"), (XTABLES, "ipt_do_table"), (XTABLES, "ebt_do_table")]
)
def test_without_btf_nothing_is_compiled(
    unit: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_uname(monkeypatch, *OTHER_KERNELS[0])
    btf = BTF(parse(Encoder().bytes()))
    function = Function(name, NO_MODULE, 0, 0, (16,), f"{name}[{NO_MODULE}]", "nft", 0)
    with pytest.raises(BTFError, match="has no BTF"):
        build_unit(btf, {}, Cache(tmp_path), [], unit, function)


@pytest.mark.parametrize(
    ("function", "present"), [("ipt_do_table", "xt_table"), ("ebt_do_table", "ebt_table")]
)
def test_btf_needs_struct_of_function(function: str, present: str) -> None:
    for struct in ("xt_table", "ebt_table"):
        encoder = Encoder()
        encoder.struct(struct, 64, ("name", encoder.integer("char", 1), 8 * 24))
        types = XtTypes(BTF(parse(encoder.bytes())), NO_MODULE, function)
        assert types.has_btf == (struct == present)
