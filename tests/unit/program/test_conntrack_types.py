"""Where conntrack's structs are looked for, and what is said where they can't be found."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.config import Config
from pypwru.log import Log
from pypwru.program.conntrack_types import ConntrackTypes, degrade_conntrack
from pypwru.program.layout import build_layout
from tests.data.btf_encoder import Encoder
from tests.support.records import configured

SOURCE = "OPTIONAL_FIELD(nf_conn, tuplehash) OPTIONAL_FIELD(nf_conn, mark) SKB_BLOCK(u64, head)"


def core(has_conntrack: bool = True) -> Encoder:
    encoder = Encoder()
    word = encoder.integer("unsigned long", 8)
    encoder.struct("sk_buff", 16, ("head", word, 0), *[("_nfct", word, 64)] * has_conntrack)
    return encoder


def with_conntrack(encoder: Encoder) -> Encoder:
    word = encoder.integer("u64", 8)
    encoder.struct("nf_conn", 24, ("status", word, 0), ("tuplehash", word, 128))
    return encoder


def asked(encoder: Encoder, folder: Path) -> tuple[Config, list[ConntrackTypes], BTF, str]:
    said = io.StringIO()
    btf = BTF(parse(encoder.bytes()))
    config, types = degrade_conntrack(configured("--output-ct"), btf, Log(said), folder)
    return config, list(types), btf, said.getvalue()


def test_what_vmlinux_knows(tmp_path: Path) -> None:
    config, types, btf, said = asked(with_conntrack(core()), tmp_path)
    assert (config.output_ct, said) == (True, "")
    made = build_layout([SOURCE], btf, *types)
    assert "#define FIELD_nf_conn_tuplehash 16\n#define SIZE_nf_conn_tuplehash 8\n" in made
    assert "nf_conn_mark" not in made


def test_what_the_module_knows(tmp_path: Path) -> None:
    vmlinux = core()
    (tmp_path / "nf_conntrack").write_bytes(with_conntrack(Encoder(base=vmlinux)).bytes())
    config, types, btf, said = asked(vmlinux, tmp_path)
    assert (config.output_ct, said) == (True, "")
    assert "#define FIELD_nf_conn_tuplehash 16\n" in build_layout([SOURCE], btf, *types)
    assert "nf_conn" not in build_layout([SOURCE], btf)


@pytest.mark.parametrize(
    ("has_conntrack", "why"),
    [
        (True, "no BTF of conntrack: modprobe nf_conntrack, and start pypwru again"),
        (False, "this kernel has no conntrack"),
    ],
)
def test_what_nobody_knows_is_said(tmp_path: Path, has_conntrack: bool, why: str) -> None:
    config, types, btf, said = asked(core(has_conntrack), tmp_path)
    assert (config.output_ct, types) == (False, [])
    assert f'WARN Continuing without --output-ct why="{why}"\n' in said
    assert "nf_conn" not in build_layout([SOURCE], btf, *types)


def test_nothing_is_looked_for_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "nf_conntrack").write_bytes(b"no BTF")
    btf = BTF(parse(core().bytes()))
    assert degrade_conntrack(configured(""), btf, Log(None), tmp_path)[1] == ()
