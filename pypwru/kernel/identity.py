"""What the kernel's types and addresses depend on, as digests for keys of a cache.

Neither reads what it stands for: BTF is 5 MB and /proc/kallsyms 10 MB on many kernels.
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
    """Stands for the running kernel's vmlinux, its BTF included; None where it has no build id.

    The build id is a hash of what the linker wrote (ld --build-id), .BTF among it.

    Args:
        btf: /sys/kernel/btf/vmlinux, of which only the size is looked at.
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


def is_debians_5_10() -> bool:
    """Whether the running kernel is Debian's 5.10, by what its build is called."""
    system = os.uname()
    return system.release.startswith("5.10.") and "Debian 5.10." in system.version


def addresses_identity() -> str | None:
    """Stands for the addresses of the kernel's functions, and this process's rights to see them.

    They hold until the next boot (KASLR) and until a module comes or goes. None where /proc doesn't
    tell.
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
