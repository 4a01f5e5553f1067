"""Raw files, ELF files, the cache, and error messages."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest

from pypwru.btf import load
from pypwru.btf.members import has_member
from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.errors import BTFError
from tests.data.btf_encoder import kernel, module

WHOLE = kernel().bytes()


def elf_file(bits: int, order: str, sections: dict[str, bytes], flags: int = 0) -> bytes:
    """Return an ELF file of ``sections`` (System V ABI, chapter 4), section headers first."""
    head, entry, address = (64, 64, "Q") if bits == 64 else (52, 40, "I")
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    contents = {**sections, ".shstrtab": names}
    table = [bytes(entry)]
    offset = head + entry * (len(contents) + 1)
    for name, content in contents.items():
        fields = (names.index(name.encode() + b"\0"), 1, flags, 0, offset, len(content), 0, 0, 1, 0)
        layout = "2I4Q2I2Q" if bits == 64 else "10I"
        table.append(struct.pack(order + layout, *fields))
        offset += len(content)
    header = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header += struct.pack(order + "2HI3" + address, 2, 62, 1, 0, 0, head)
    header += struct.pack(order + "I6H", 0, head, 0, 0, entry, len(table), len(table) - 1)
    return header + b"".join(table) + b"".join(contents.values())


def write_file(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


def summary(btf: BTF) -> tuple[object, ...]:
    return (
        btf.digest,
        [btf.type(type_id) for type_id in btf.ids()],
        btf.functions_taking("sk_buff"),
        btf.find("sk_buff"),
    )


def test_raw_btf(tmp_path: Path) -> None:
    assert has_member(load.load_vmlinux(write_file(tmp_path, WHOLE)), "sk_buff", "len")


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf(tmp_path: Path, bits: int, order: str) -> None:
    blob = kernel(order).bytes()
    data = elf_file(bits, order, {".BTF.ext": b"no", ".text": b"\x90", ".BTF": blob})
    btf = load.load_vmlinux(write_file(tmp_path, data))
    assert summary(btf) == summary(load.load_vmlinux(write_file(tmp_path, blob)))


def test_cached_btf_equals_parsed(tmp_path: Path) -> None:
    path, cache = write_file(tmp_path, WHOLE), Cache(tmp_path / "cache")
    cold = load.load_vmlinux(path, cache)
    (entry,) = (tmp_path / "cache").iterdir()
    warm = load.load_vmlinux(path, cache)
    assert summary(cold) == summary(warm) == summary(load.load_vmlinux(path))
    assert warm.functions_taking("sk_buff", 6)[-1][0] == "sixth"
    entry.write_bytes(entry.read_bytes()[:-4])
    assert summary(load.load_vmlinux(path, cache)) == summary(cold), "a spoilt index is made anew"
    assert summary(load.load_vmlinux(path, cache)) == summary(cold)


def test_warm_load_does_not_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = write_file(tmp_path, WHOLE), Cache(tmp_path / "cache")
    load.load_vmlinux(path, cache)
    monkeypatch.setattr("pypwru.btf.index.scan", None)
    monkeypatch.setattr("pypwru.btf.argument_index.functions_taking", None)
    assert load.load_vmlinux(path, cache).functions_taking("sk_buff")


def test_cache_key_depends_on_content(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = load.load_vmlinux(write_file(tmp_path, WHOLE), cache)
    encoder = kernel()
    encoder.integer("more", 4)
    second = load.load_vmlinux(write_file(tmp_path, encoder.bytes()), cache)
    assert first.digest != second.digest
    assert second.find("more")
    assert not first.find("more")


def test_module_btf(tmp_path: Path) -> None:
    base = kernel()
    vmlinux = load.load_vmlinux(write_file(tmp_path, base.bytes()))
    folder = tmp_path / "btf"
    folder.mkdir()
    (folder / "vmlinux").write_bytes(base.bytes())
    (folder / "nf_tables").write_bytes(module(base).bytes())
    assert load.module_names(folder) == ["nf_tables"]
    found = load.load_module("nf-tables", vmlinux, folder)
    assert [name for name, _ in found.functions()] == ["module_const", "nothing"]
    for name in ("absent", "../file", "nf_tables/..", "..", "", "vmlinux"):
        with pytest.raises(BTFError, match=r"no BTF of kernel module .* modprobe"):
            load.load_module(name, vmlinux, folder)
    (folder / "broken").write_bytes(b"what")
    with pytest.raises(BTFError, match="BTF of kernel module broken: not BTF"):
        load.load_module("broken", vmlinux, folder)
    assert load.module_names(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not BTF: it begins with nothing"),
        (b"MZ\0\0 bzImage", "not BTF: it begins with 4d 5a 00 00"),
        (WHOLE[:100], "BTF is malformed"),
        (elf_file(64, "<", {".text": b""}), "ELF without a .BTF section: boot a kernel with"),
        (elf_file(64, "<", {".BTF": b"x"}), "not BTF: it begins with 78"),
        (elf_file(64, "<", {".BTF": b"x"}, flags=0x800), "section .BTF is compressed"),
        (elf_file(64, "<", {".BTF": WHOLE})[:90], "ELF file is malformed"),
        (b"\x7fELF\2\1" + bytes(60), "ELF without a .BTF section"),
        (b"\x7fELF\7\1" + bytes(60), "ELF file is malformed"),
    ],
)
def test_error_names_file_and_cause(tmp_path: Path, data: bytes, words: str) -> None:
    path = write_file(tmp_path, data)
    with pytest.raises(BTFError, match=words) as raised:
        load.load_vmlinux(path, Cache(tmp_path / "cache"))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BTFError, match=r"cannot read BTF of .*gone: No such file"):
        load.load_vmlinux(tmp_path / "gone")
    with pytest.raises(BTFError, match=r"cannot read BTF of .*: Is a directory"):
        load.load_vmlinux(tmp_path)
    if os.geteuid() != 0:
        path = write_file(tmp_path, WHOLE)
        path.chmod(0)
        with pytest.raises(BTFError, match=r"cannot read BTF of .*: Permission denied"):
            load.load_vmlinux(path)


def test_missing_kernel_btf_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SYSFS", tmp_path)
    monkeypatch.setattr(load, "VMLINUX_PATHS", (str(tmp_path / "vmlinux-{release}"),))
    with pytest.raises(BTFError, match="CONFIG_DEBUG_INFO_BTF=y, or give --kernel-btf FILE"):
        load.load_vmlinux()
    (tmp_path / f"vmlinux-{os.uname().release}").write_bytes(WHOLE)
    assert load.load_vmlinux().find("sk_buff")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/null"])
def test_endless_device_is_not_btf(device: str) -> None:
    with pytest.raises(BTFError, match=f"BTF of {device}: not BTF: it begins with"):
        load.load_vmlinux(Path(device))


def test_read_stops_at_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file over the limit is read as if it ended there, and so is malformed."""
    monkeypatch.setattr(load, "_MAX_FILE_SIZE", len(WHOLE) - 8)
    with pytest.raises(BTFError, match="malformed"):
        load.load_vmlinux(write_file(tmp_path, WHOLE))


def test_pipe_is_read_to_eof() -> None:
    """``--kernel-btf <(xz -dc FILE)``."""
    reading, writing = os.pipe()
    feed = os.fdopen(writing, "wb")

    def write() -> None:
        with feed:
            feed.write(WHOLE)

    feeder = threading.Thread(target=write)
    feeder.start()
    found = load.load_vmlinux(Path(f"/dev/fd/{reading}"))
    feeder.join()
    os.close(reading)
    assert has_member(found, "sk_buff", "len")
