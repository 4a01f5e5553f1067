"""Check of the capabilities(7) that tracing needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pypwru.errors import KernelError

# Numbers of include/uapi/linux/capability.h.
_SYS_ADMIN = 21
_SYSLOG = 34
_PERFMON = 38
_BPF = 39
# The initial user namespace has this inode on every kernel (PROC_USER_INIT_INO of
# include/linux/proc_ns.h). bpf(2) checks capabilities against that one; CapEff in
# /proc/self/status is relative to the process's own user namespace.
_INITIAL_USER_NAMESPACE = "user:[4026531837]"


class CapabilityNeed(NamedTuple):
    """A capability that tracing needs.

    Args:
        name: ``CAP_*``.
        bit: its number.
        implied_by: number of a capability that implies it, or None.
        why: the operation that needs it, for the error message.
    """

    name: str
    bit: int
    implied_by: int | None
    why: str


# CAP_SYS_RESOURCE is not in the list: it is needed only to raise RLIMIT_MEMLOCK, which limits BPF
# memory before Linux 5.11; there, creating a map without it fails with EPERM.
CAPABILITY_NEEDS = (
    CapabilityNeed("CAP_BPF", _BPF, _SYS_ADMIN, "load programs and create maps"),
    CapabilityNeed("CAP_PERFMON", _PERFMON, _SYS_ADMIN, "attach them and read kernel memory"),
    CapabilityNeed("CAP_SYSLOG", _SYSLOG, None, "read kernel addresses"),
)


def find_missing(effective: int, last: int = _BPF, initial_namespace: bool = True) -> list[str]:
    """Return the names of the capabilities that tracing needs and the process lacks.

    Args:
        effective: bit mask, CapEff of proc_pid_status(5).
        last: highest capability number of this kernel (kernel.cap_last_cap). Above it,
            CAP_SYS_ADMIN is required instead (CAP_BPF and CAP_PERFMON: since Linux 5.8).
        initial_namespace: whether the process is in the initial user namespace; if not, all are
            missing.
    """
    if not initial_namespace:
        return [need.name for need in CAPABILITY_NEEDS]
    missing: list[str] = []
    for need in CAPABILITY_NEEDS:
        held = effective >> need.bit & 1
        implied = need.implied_by is not None and effective >> need.implied_by & 1
        name = need.name if need.bit <= last else "CAP_SYS_ADMIN"
        if not held and not implied and name not in missing:
            missing.append(name)
    return missing


def missing_capabilities(proc: Path = Path("/proc")) -> list[str]:
    """Return the names of the capabilities that this process lacks; [] if it can trace.

    Args:
        proc: mount point of procfs.

    Raises:
        KernelError: procfs can't be read.
    """
    try:
        status = (proc / "self/status").read_text()
        namespace = str((proc / "self/ns/user").readlink())
        last = int((proc / "sys/kernel/cap_last_cap").read_text())
    except OSError as error:
        raise KernelError(
            f"cannot read this process's capabilities: {error.filename}: {error.strerror}",
            "mount procfs at /proc",
        ) from error
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    effective = int(found.group(1), 16) if found else 0
    return find_missing(effective, last, namespace == _INITIAL_USER_NAMESPACE)


def require_capabilities(proc: Path = Path("/proc")) -> None:
    """Raise if this process lacks capabilities for tracing, before anything is compiled or loaded.

    Raises:
        KernelError: names each missing capability and what it is for; or procfs can't be read.
    """
    missing = missing_capabilities(proc)
    if missing:
        purposes = {need.name: need.why for need in CAPABILITY_NEEDS} | {
            "CAP_SYS_ADMIN": "load and attach programs"
        }
        described = ", ".join(f"{name} ({purposes[name]})" for name in missing)
        raise KernelError(
            f"cannot trace: this process lacks {described}",
            "run it as root of the host: sudo pypwru",
        )
