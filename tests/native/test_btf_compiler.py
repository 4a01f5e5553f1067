"""gcc and binutils as oracles: offsets and bits in C, and ELF of every class and byte order."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pypwru.btf import elf, index, load
from pypwru.btf.declare import declare_function
from pypwru.btf.enums import find_enum
from pypwru.btf.members import find_member
from pypwru.btf.query import BTF
from pypwru.btf.types import Field, Kind
from pypwru.cache import Cache
from tests.data.btf_encoder import kernel
from tests.native.test_btf_bpftool import VMLINUX, bpftool, load_btf
from tests.support.need import need

STRUCTS = (
    "sk_buff",
    "net_device",
    "sock",
    "net",
    "task_struct",
    "skb_shared_info",
    "iphdr",
    "page",
)

pytestmark = pytest.mark.native


def run(*command: str | Path) -> None:
    need(shutil.which(str(command[0])), f"{command[0]} (Debian's packages gcc and binutils)")
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All types of this kernel as bpftool writes them in C."""
    load_btf()
    path = tmp_path_factory.mktemp("c") / "vmlinux.h"
    path.write_text(bpftool("btf", "dump", "file", VMLINUX, "format", "c"))
    return path


def fields(btf: BTF, struct: str) -> dict[str, Field]:
    (type_id,) = btf.find(struct, Kind.STRUCT)
    return {name: find_member(btf, struct, name) for name in btf.flat_members(type_id)}


def test_offsets_and_sizes_are_gccs(header: Path) -> None:
    btf = load_btf()
    lines = ['#include "vmlinux.h"']
    for struct in STRUCTS:
        (type_id,) = btf.find(struct, Kind.STRUCT)
        lines.append(f"_Static_assert(sizeof(struct {struct}) == {btf.size(type_id)});")
        for name, field in fields(btf, struct).items():
            if not field.bit_size:
                at = f"__builtin_offsetof(struct {struct}, {name}) == {field.offset}"
                size = f"sizeof(((struct {struct} *)0)->{name}) == {field.size}"
                lines.append(f"_Static_assert({at} && {size});")
    for struct, path in (("net", "ns.inum"), ("sock", "__sk_common.skc_net.net")):
        offset = find_member(btf, struct, path).offset
        lines.append(f"_Static_assert(__builtin_offsetof(struct {struct}, {path}) == {offset});")
    assert len(lines) > 400
    source = header.with_name("offsets.c")
    source.write_text("\n".join(lines))
    run("gcc", "-w", "-fsyntax-only", source)


def test_bit_fields_are_gccs(header: Path, tmp_path: Path) -> None:
    """Each is set to all ones in its own object; the bits of the data are its position."""
    btf = load_btf()
    bit_fields = [
        (struct, name, field)
        for struct in STRUCTS
        for name, field in fields(btf, struct).items()
        if field.bit_size
    ]
    assert len(bit_fields) > 60
    objects = "\n".join(
        f'__attribute__((section(".{number}"))) struct {struct} o{number} = {{ .{name} = -1 }};'
        for number, (struct, name, _) in enumerate(bit_fields)
    )
    source, binary = header.with_name("bits.c"), tmp_path / "bits.o"
    source.write_text(f'#include "vmlinux.h"\n{objects}\n')
    run("gcc", "-w", "-c", source, "-o", binary)
    data = binary.read_bytes()
    for number, (struct, name, field) in enumerate(bit_fields):
        content = elf.find_section(data, f".{number}")
        assert content is not None
        start = field.offset * 8 + field.bit_offset
        expected = ((1 << field.bit_size) - 1) << start
        assert int.from_bytes(content, "little") == expected, f"{struct}.{name}"


def test_prototypes_compile(header: Path) -> None:
    """Every 20th function, once a name; names of the compiler's own functions are left out."""
    btf = load_btf()
    names = sorted({name for name, _ in btf.functions()})[::20]
    sources = [f"{declare_function(btf, name)};" for name in names if name.isidentifier()]
    assert len(sources) > 2000
    source = header.with_name("prototypes.c")
    source.write_text('#include "vmlinux.h"\n' + "\n".join(sources))
    run("gcc", "-w", "-fno-builtin", "-fsyntax-only", source)


@pytest.mark.parametrize("shape", ["elf64-little", "elf64-big", "elf32-little", "elf32-big"])
def test_btf_of_objcopied_elf_is_equal(tmp_path: Path, shape: str) -> None:
    blob, path = tmp_path / "blob", tmp_path / "object"
    blob.write_bytes(kernel(">" if shape.endswith("big") else "<").bytes())
    run("objcopy", "-I", "binary", "-O", shape, "--rename-section", ".data=.BTF", blob, path)
    assert path.read_bytes()[:4] == elf.MAGIC
    assert load.load_vmlinux(path).digest == load.load_vmlinux(blob).digest


def query_btf(btf: BTF) -> None:
    """Query what a run needs: the functions, some forty members, the helpers' numbers."""
    assert len(btf.functions_taking("sk_buff")) > 500
    for struct in ("sk_buff", "net_device", "sock", "skb_shared_info"):
        (type_id,) = btf.find(struct, Kind.STRUCT)
        for member in btf.members(type_id)[:12]:
            if member.name:
                find_member(btf, struct, member.name)
    assert find_enum(btf, "bpf_func_id")["BPF_FUNC_ringbuf_output"] == 130


def test_cached_index_is_not_scanned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its duration is measured by bench/start."""
    cache = Cache(tmp_path / "cache")
    load_btf()
    query_btf(load.load_vmlinux(cache=cache))

    def scan_again(*_: object) -> None:
        raise AssertionError("all records were gone through once more")

    monkeypatch.setattr(index, "scan", scan_again)
    query_btf(load.load_vmlinux(cache=cache))
    with pytest.raises(AssertionError):
        query_btf(load.load_vmlinux())
