"""Cache keys for the kernel's types and addresses.

Computed from small files, since the data are large: BTF is 5 MB and /proc/kallsyms 10 MB on many
kernels.
"""

from __future__ import annotations

import os
from pathlib import Path

from pypwru.cache import digest

_NOTES = Path("/sys/kernel/notes")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MODULES = Path("/proc/modules")
_STATUS = Path("/proc/self/status")
_GNU_BUILD_ID = b"\3\0\0\0GNU\0"  # n_type NT_GNU_BUILD_ID and the name of an ELF note


def vmlinux_identity(btf: Path) -> str | None:
    """Return a digest that identifies the running kernel's vmlinux; None without a build id.

    The build id is a hash of the linker's output (ld --build-id), which includes .BTF.

    Args:
        btf: /sys/kernel/btf/vmlinux, of which only the size is read.
    """
    try:
        notes, size = _NOTES.read_bytes(), btf.stat().st_size
    except OSError:
        return None
    if _GNU_BUILD_ID not in notes:
        return None
    system = os.uname()
    return digest(
        notes, size.to_bytes(8, "little"), system.release.encode(), system.version.encode()
    )


def is_debian_5_10() -> bool:
    """Return whether the running kernel is Debian's 5.10, by its uname(2) version."""
    system = os.uname()
    return system.release.startswith("5.10.") and "Debian 5.10." in system.version


def addresses_identity() -> str | None:
    """Return a digest that changes with the addresses in /proc/kallsyms; None without /proc.

    It covers the boot (KASLR), the loaded modules with their addresses, and this process's UID and
    capabilities, on which kernel.kptr_restrict depends.
    """
    try:
        boot = _BOOT_ID.read_bytes()
        modules = _MODULES.read_bytes() if _MODULES.exists() else b""
        status = _STATUS.read_bytes()
    except OSError:
        return None
    # Of a module: name, size, address; the columns between change with its users.
    loaded = [b" ".join(line.split()[part] for part in (0, 1, 5)) for line in modules.splitlines()]
    rights = [line for line in status.splitlines() if line.startswith((b"Uid:", b"CapEff:"))]
    return digest(boot, b"\n".join(sorted(loaded)), b"\n".join(rights))
