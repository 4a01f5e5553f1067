"""Loading of BTF: of the running kernel, its modules or a file. Only this module opens files."""

from __future__ import annotations

import contextlib
import mmap
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru import cache as caching
from pypwru.btf.query import BTF, INDEXED_STRUCT
from pypwru.btf.types import Kind
from pypwru.errors import BTFError, NoBTF
from pypwru.kernel.build_id import vmlinux_identity

if TYPE_CHECKING:
    from pypwru.btf.parse import Blob
    from pypwru.cache import Cache

SYSFS = Path("/sys/kernel/btf")
# Paths where distributions install a vmlinux: the list of libbpf's btf__load_vmlinux_btf().
VMLINUX_PATHS = (
    "/boot/vmlinux-{release}",
    "/lib/modules/{release}/vmlinux-{release}",
    "/lib/modules/{release}/build/vmlinux",
    "/usr/lib/modules/{release}/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{release}",
    "/usr/lib/debug/boot/vmlinux-{release}.debug",
    "/usr/lib/debug/lib/modules/{release}/vmlinux",
)
CURE = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or give --kernel-btf FILE"
_MAX_FILE_SIZE = 1 << 28  # bytes; Debian's vmlinuz has 6 million, and a pipe may never end
FILE_FORMATS_HINT = "give --kernel-btf FILE: raw BTF, a vmlinux with a .BTF section, or a vmlinuz"


def load_vmlinux(path: Path | None = None, cache: Cache | None = None) -> BTF:
    """Return the kernel's BTF. That of the running kernel is read at the first query.

    Args:
        path: raw BTF, ELF with a .BTF section, or a vmlinuz (``--kernel-btf``); None searches
            /sys/kernel/btf/vmlinux, then ``VMLINUX_PATHS``.
        cache: stores the index, so that the next load of the same bytes takes milliseconds.

    Raises:
        NoBTF: none found.
        BTFError: unreadable, or not BTF; if the read is deferred, the first query raises it.
    """
    if path is not None:
        return BTF(_read_vmlinux(path, cache))
    path = _find_vmlinux()
    identity = vmlinux_identity(path) if path.parent == SYSFS else None
    if identity is None:
        return BTF(_read_vmlinux(path, cache))
    return BTF(partial(_read_vmlinux, path, cache), identity)


def is_other_kernel(path: Path, cache: Cache | None = None) -> bool:
    """Return whether the BTF of ``path`` differs from that of the running kernel.

    False if the running kernel has no BTF to compare with.

    Raises:
        BTFError: as ``load_vmlinux``.
    """
    try:
        running = load_vmlinux(None, cache)
    except NoBTF:  # the file is given to replace it
        return False
    return load_vmlinux(path, cache).digest != running.digest


def require_running_kernel_btf(path: Path, cache: Cache | None = None) -> None:
    """Raise if tracing with this BTF would read struct members at another kernel's offsets.

    Raises:
        BTFError: the file is of another kernel; or as ``load_vmlinux``.
    """
    if is_other_kernel(path, cache):
        raise BTFError(
            f"--kernel-btf {path} is not of the running kernel: {SYSFS / 'vmlinux'} differs, and "
            "members would be read at wrong offsets",
            "leave it out, or use it with --list-functions",
        )


def _read_vmlinux(path: Path, cache: Cache | None) -> Blob:
    data = read_btf_file(path)
    try:
        return _parse_with_index(data, cache)
    except BTFError as problem:
        raise BTFError(f"BTF of {path}: {problem}", FILE_FORMATS_HINT) from problem


def load_module(name: str, base: BTF, folder: Path = SYSFS) -> BTF:
    """Return the split BTF of a loaded module.

    Args:
        name: of the module; dashes and underscores are equivalent, as for modprobe.
        base: BTF of the running kernel's vmlinux.
        folder: directory with one file per module.

    Raises:
        BTFError: not loaded, without BTF, unreadable or malformed.
    """
    from pypwru.btf.parse import parse

    file_name = name.replace("-", "_")
    names = module_names(folder)
    if file_name not in names:
        from pypwru.suggestions import did_you_mean

        raise BTFError(
            f"no BTF of kernel module {name!r}: load it with modprobe, or leave it out; a module "
            "built without CONFIG_DEBUG_INFO_BTF_MODULES has none"
            f"{did_you_mean(file_name, names)}"
        )
    try:
        return BTF(parse(read_btf_file(folder / file_name), base.blob))
    except BTFError as problem:
        raise BTFError(f"BTF of kernel module {name}: {problem.cause}", problem.cure) from problem


def module_names(folder: Path = SYSFS) -> list[str]:
    """Return the names of the loaded modules that have BTF, sorted; [] if ``folder`` is missing."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name != "vmlinux")
    except OSError:
        return []


def module_digest(name: str, folder: Path = SYSFS) -> str:
    """Return a digest of a loaded module's BTF, for cache keys; empty if it has none."""
    try:
        return caching.digest((folder / name).read_bytes()) if name else ""
    except OSError:
        return ""


def _find_vmlinux() -> Path:
    release = os.uname().release
    paths = [
        SYSFS / "vmlinux",
        *(Path(template.format(release=release)) for template in VMLINUX_PATHS),
    ]
    for path in paths:
        if path.exists():
            return path
    raise NoBTF(f"no BTF of the kernel {release} in {paths[0]} or a usual place: {CURE}")


def _extract_from_image(data: bytes) -> bytes:
    """Return the BTF inside ``data`` if that is a kernel's boot image; else ``data``."""
    from pypwru.btf.parse import is_btf

    if is_btf(data):
        return data
    from pypwru.btf.vmlinuz import find_btf

    return find_btf(data) or data


def read_btf_file(path: Path) -> bytes:
    """Return the raw BTF of ``path``: raw BTF itself, ELF with a .BTF section, or a vmlinuz.

    Of an ELF file only the section's pages are read, of any other file at most ``_MAX_FILE_SIZE``
    bytes.
    A file that is none of the three is returned as it is: ``parse`` then reports it.

    Raises:
        BTFError: unreadable; malformed ELF, or ELF without a .BTF section.
    """
    from pypwru.btf import elf

    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head != elf.MAGIC:
                return (
                    head
                    if path.is_char_device()
                    else _extract_from_image(head + file.read(_MAX_FILE_SIZE))
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                found = elf.find_section(mapped, ".BTF")
    except OSError as problem:
        raise BTFError(
            f"cannot read BTF of {path}: {problem.strerror}", FILE_FORMATS_HINT
        ) from problem
    except BTFError as problem:
        raise BTFError(f"BTF of {path}: {problem}") from problem
    if found is None:
        raise BTFError(f"{path} is ELF without a .BTF section: {CURE}")
    return found


def _parse_with_index(data: bytes, cache: Cache | None) -> Blob:
    from pypwru.btf import argument_index, index
    from pypwru.btf.parse import is_btf, parse

    if cache is None or not is_btf(data):
        return parse(data)
    key = f"btf-{index.FORMAT}-{caching.digest(data)}"
    if packed := cache.get(key):
        return parse(data, index=index.unpack(packed))
    blob = parse(data)
    # Malformed types raise in the query that needs them, which reports their context.
    with contextlib.suppress(BTFError):
        skb_functions = argument_index.functions_taking(
            blob, BTF(blob).find(INDEXED_STRUCT, Kind.STRUCT)
        )
        blob = blob._replace(index=blob.index._replace(skb_functions=skb_functions))
    cache.put(key, index.pack(blob.index))
    return blob
