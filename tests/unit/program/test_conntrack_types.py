"""Where conntrack's structs are found, and the log if they aren't."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.log import Log
from pypwru.program.conntrack_types import ConntrackTypes, find_conntrack_types
from pypwru.program.layout import build_layout
from tests.data.btf_encoder import Encoder

FIELDS = """\
OPTIONAL(nf_conn, tuplehash, ADDRESS)
OPTIONAL(nf_conn, mark, u32)
IN_SKB_BLOCK(head)
"""


def encode_vmlinux(has_conntrack: bool = True) -> Encoder:
    encoder = Encoder()
    word = encoder.integer("unsigned long", 8)
    encoder.struct("sk_buff", 16, ("head", word, 0), *[("_nfct", word, 64)] * has_conntrack)
    return encoder


def add_nf_conn(encoder: Encoder) -> Encoder:
    word = encoder.integer("u64", 8)
    encoder.struct("nf_conn", 24, ("status", word, 0), ("tuplehash", word, 128))
    return encoder


def find_types(encoder: Encoder, folder: Path) -> tuple[list[ConntrackTypes], BTF, str]:
    log = io.StringIO()
    btf = BTF(parse(encoder.bytes()))
    types = find_conntrack_types(btf, Log(log), folder)
    return list(types), btf, log.getvalue()


def test_types_in_vmlinux(tmp_path: Path) -> None:
    types, btf, log = find_types(add_nf_conn(encode_vmlinux()), tmp_path)
    assert (len(types), log) == (1, "")
    layout = build_layout(FIELDS, btf, *types)
    assert "#define FIELD_nf_conn_tuplehash 16\n#define SIZE_nf_conn_tuplehash 8\n" in layout
    assert "nf_conn_mark" not in layout


def test_types_in_module(tmp_path: Path) -> None:
    vmlinux = encode_vmlinux()
    (tmp_path / "nf_conntrack").write_bytes(add_nf_conn(Encoder(base=vmlinux)).bytes())
    types, btf, log = find_types(vmlinux, tmp_path)
    assert (len(types), log) == (1, "")
    assert "#define FIELD_nf_conn_tuplehash 16\n" in build_layout(FIELDS, btf, *types)
    assert "nf_conn" not in build_layout(FIELDS, btf)


@pytest.mark.parametrize(
    ("has_conntrack", "reason"),
    [
        (True, "no BTF of conntrack: modprobe nf_conntrack, and start pypwru again"),
        (False, "this kernel has no conntrack"),
    ],
)
def test_missing_types_are_logged(tmp_path: Path, has_conntrack: bool, reason: str) -> None:
    types, btf, log = find_types(encode_vmlinux(has_conntrack), tmp_path)
    assert types == []
    assert f'WARN Continuing without --output-ct why="{reason}"\n' in log
    assert "nf_conn" not in build_layout(FIELDS, btf, *types)
