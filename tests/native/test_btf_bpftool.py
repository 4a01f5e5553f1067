"""bpftool reads the same blobs: every type of this kernel, of other kernels, of their modules."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pypwru.btf import declare, load
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.btf.types import STRUCTS, Kind, Type
from tests.data.btf_encoder import kernel, module
from tests.lab import kernels
from tests.lab.vm import guest, packages
from tests.support.need import need

VMLINUX = load.SYSFS / "vmlinux"
LINKAGE = ("static", "global", "extern")
ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
MODULES = ("nf_tables", "nf_conntrack", "bridge", "vxlan", "wireguard", "tun", "veth", "ip_gre")

pytestmark = pytest.mark.native


def bpftool(*arguments: str | Path) -> str:
    need(shutil.which("bpftool"), "bpftool (Debian's package bpftool)")
    return subprocess.run(
        ["bpftool", *arguments], capture_output=True, text=True, check=True
    ).stdout


def raw(path: Path, base: Path | None = None) -> list[dict[str, Any]]:
    over: Sequence[str | Path] = ["-B", base] if base else []
    dumped: dict[str, list[dict[str, Any]]] = json.loads(
        bpftool("-j", *over, "btf", "dump", "file", path)
    )
    return dumped["types"]


def load_btf() -> BTF:
    need(VMLINUX.exists(), "BTF of this kernel")
    return load.load_vmlinux()


def described(btf: BTF, type_id: int) -> dict[str, Any]:
    """Return ``type_id`` as ``bpftool -j btf dump`` has it, as far as this package decodes it."""
    found = btf.type(type_id)
    words: dict[str, Any] = {
        "id": type_id,
        "kind": found.kind.name,
        "name": found.name or "(anon)",
    }
    return words | BY_KIND.get(found.kind, reference)(btf, found)


def reference(btf: BTF, found: Type) -> dict[str, Any]:
    return {"type_id": found.type}


def integer(btf: BTF, found: Type) -> dict[str, Any]:
    encoding, start, bits = btf.integer(found.id)
    return {
        "size": found.size,
        "bits_offset": start,
        "nr_bits": bits,
        "encoding": ENCODINGS[encoding],
    }


def array(btf: BTF, found: Type) -> dict[str, Any]:
    element, index, count = btf.array(found.id)
    return {"type_id": element, "index_type_id": index, "nr_elems": count}


def structure(btf: BTF, found: Type) -> dict[str, Any]:
    members = [
        {"name": name or "(anon)", "type_id": type_id, "bits_offset": offset}
        | ({"bitfield_size": bits} if bits else {})
        for name, type_id, offset, bits in btf.members(found.id)
    ]
    return {"size": found.size, "vlen": found.vlen, "members": members}


def enum(btf: BTF, found: Type) -> dict[str, Any]:
    values = btf.enumerators(found.id)
    return {
        "size": found.size,
        "vlen": found.vlen,
        "encoding": "SIGNED" if found.kind_flag else "UNSIGNED",
        "values": [{"name": name, "val": value} for name, value in values.items()],
    }


def function_prototype(btf: BTF, found: Type) -> dict[str, Any]:
    params = [{"name": name or "(anon)", "type_id": kind} for name, kind in btf.params(found.id)]
    return {"ret_type_id": found.type, "vlen": found.vlen, "params": params}


BY_KIND: dict[Kind, Callable[[BTF, Type], dict[str, Any]]] = {
    Kind.INT: integer,
    Kind.ARRAY: array,
    Kind.STRUCT: structure,
    Kind.UNION: structure,
    Kind.ENUM: enum,
    Kind.ENUM64: enum,
    Kind.FUNC_PROTO: function_prototype,
    Kind.FWD: lambda btf, found: {"fwd_kind": "union" if found.kind_flag else "struct"},
    Kind.FUNC: lambda btf, found: {"type_id": found.type, "linkage": LINKAGE[found.vlen]},
    Kind.FLOAT: lambda btf, found: {"size": found.size},
    Kind.DATASEC: lambda btf, found: {"size": found.size, "vlen": found.vlen},
}
# Fields that this package doesn't decode: of variables, sections and declaration tags.
NOT_DECODED = {
    "VAR": {"linkage"},
    "DATASEC": {"vars", "size", "vlen"},
    "DECL_TAG": {"component_idx"},
}


def truncate_enumerators(theirs: dict[str, Any]) -> dict[str, Any]:
    """bpftool 7.1 prints the __s32 of an unsigned enumerator sign-extended to 64 bits."""
    if (theirs["kind"], theirs.get("encoding")) != ("ENUM", "UNSIGNED"):
        return theirs
    values = [one | {"val": one["val"] & 0xFFFFFFFF} for one in theirs["values"]]
    return theirs | {"values": values}


def differences(btf: BTF, listed: list[dict[str, Any]]) -> Iterator[tuple[object, object]]:
    assert [one["id"] for one in listed] == list(btf.ids())
    for theirs in map(truncate_enumerators, listed):
        ours = described(btf, theirs["id"])
        ignored = NOT_DECODED.get(theirs["kind"], set())
        if any(ours.get(key) != value for key, value in theirs.items() if key not in ignored):
            yield ours, theirs


def test_types_of_this_kernel_are_bpftools() -> None:
    btf = load_btf()
    listed = raw(VMLINUX)
    assert len(listed) > 10_000
    assert not list(differences(btf, listed))
    ids: dict[str, list[int]] = {}
    for one in listed:
        ids.setdefault(one["name"], []).append(one["id"])
    del ids["(anon)"]
    assert all(btf.find(name) == expected for name, expected in ids.items())


def test_functions_taking_sk_buff() -> None:
    btf = load_btf()
    types = {one["id"]: one for one in raw(VMLINUX)}
    types[0] = {"kind": "VOID"}

    def bare(type_id: int) -> dict[str, Any]:
        while types[type_id]["kind"] in ("TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG"):
            type_id = types[type_id]["type_id"]
        return types[type_id]

    def takes(param: dict[str, Any]) -> bool:
        pointer = bare(param["type_id"])
        if pointer["kind"] != "PTR":
            return False
        target = bare(pointer["type_id"])
        return (target["kind"], target.get("name")) == ("STRUCT", "sk_buff")

    expected = []
    for one in types.values():
        if one["kind"] == "FUNC":
            params = types[one["type_id"]]["params"][:5]
            if positions := tuple(at for at, param in enumerate(params, 1) if takes(param)):
                expected.append((one["name"], one["type_id"], positions))
    assert len(expected) > 500
    assert btf.functions_taking("sk_buff") == expected


def normalize(declaration: str) -> str:
    """Remove optional blanks, and the ___2 that distinguishes types of one name."""
    return re.sub(r"\s*([*(),\[\]])\s*", r"\1", re.sub(r"___\d+\b", "", declaration))


def test_function_pointer_declarations_are_bpftools() -> None:
    """Typedefs and members of ``format c``; it breaks lines only inside anonymous structs."""
    btf = load_btf()
    dumped = bpftool("btf", "dump", "file", VMLINUX, "format", "c").splitlines()
    lines = {normalize(line.strip().rstrip(";")) for line in dumped if line.endswith(");")}
    ours = set()
    for type_id in btf.ids():
        found = btf.type(type_id)
        if found.kind is Kind.TYPEDEF:
            ours.add("typedef " + declare.declare(btf, found.type, found.name))
        elif found.kind in STRUCTS:
            for member in btf.members(type_id):
                ours.add(declare.declare(btf, member.type, member.name))
    attribute = "__attribute__"
    missing = lines - {normalize(one) for one in ours}
    assert len(lines) > 3000
    assert not {one for one in missing if attribute not in one}


@pytest.mark.parametrize("order", ["<", ">"])
def test_encoded_btf_is_read_by_bpftool(tmp_path: Path, order: str) -> None:
    encoder = kernel(order)
    base, split = tmp_path / "vmlinux", tmp_path / "module"
    base.write_bytes(encoder.bytes())
    split.write_bytes(module(encoder).bytes())
    whole = parse(base.read_bytes())
    assert not list(differences(BTF(whole), raw(base)))
    assert not list(differences(BTF(parse(split.read_bytes(), whole)), raw(split, base)))


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "modules"),
    [(row.name, MODULES if row.has(kernels.Feature.MODULE_BTF) else ()) for row in kernels.KERNELS],
)
def test_types_of_lab_kernels_are_bpftools(
    name: str, modules: tuple[str, ...], tmp_path: Path
) -> None:
    """5.10 has no BTF in its modules."""
    try:
        vmlinux, root = guest.btf(name), packages.kernel(name)
    except packages.LabError as problem:
        need(False, f"kernel {name} of the lab: {problem}")
    base = load.load_vmlinux(vmlinux)
    assert not list(differences(base, raw(vmlinux)))
    assert len(base.functions_taking("sk_buff")) > 500
    listed = 0
    for module_name in modules:
        for packed in root.glob(f"**/{module_name}.ko*"):
            path = tmp_path / f"{module_name}.ko"
            data = packed.read_bytes()
            path.write_bytes(lzma.decompress(data) if packed.suffix == ".xz" else data)
            split = BTF(parse(load.read_btf_file(path), base.blob))
            assert not list(differences(split, raw(path, vmlinux)))
            listed += len(split.functions_taking("sk_buff"))
    print(f"{name}: {listed} functions of modules take an sk_buff")
    assert not modules or listed > 50
