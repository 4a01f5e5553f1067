"""Which rights this process lacks for tracing: capabilities(7)."""

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
# The user namespace made at boot has this inode on every kernel (PROC_USER_INIT_INO of
# include/linux/proc_ns.h). bpf(2) asks for the rights in that one, whatever CapEff says.
_INITIAL_USER_NAMESPACE = "user:[4026531837]"


class Need(NamedTuple):
    """A right that tracing needs.

    Args:
        name: of the capability.
        bit: its number.
        instead: a capability that includes it, by number, or None.
        why: what fails without it.
    """

    name: str
    bit: int
    instead: int | None
    why: str


# CAP_SYS_RESOURCE is not here: it only lifts RLIMIT_MEMLOCK, which counts BPF memory before
# Linux 5.11 alone; whoever creates a map finds out from the kernel.
NEEDS = (
    Need("CAP_BPF", _BPF, _SYS_ADMIN, "load programs and create maps"),
    Need("CAP_PERFMON", _PERFMON, _SYS_ADMIN, "attach them and read kernel memory"),
    Need("CAP_SYSLOG", _SYSLOG, None, "read kernel addresses"),
)


def missing_of(effective: int, last: int = _BPF, initial_namespace: bool = True) -> list[str]:
    """Names of the rights missing from a set of capabilities.

    Args:
        effective: bits, as CapEff of proc_pid_status(5).
        last: the highest capability that this kernel knows; CAP_SYS_ADMIN stands for those that
            it doesn't (CAP_BPF and CAP_PERFMON came with Linux 5.8).
        initial_namespace: whether the process is in the user namespace made at boot.
    """
    if not initial_namespace:
        return [need.name for need in NEEDS]
    missing: list[str] = []
    for need in NEEDS:
        held = effective >> need.bit & 1
        implied = need.instead is not None and effective >> need.instead & 1
        name = need.name if need.bit <= last else "CAP_SYS_ADMIN"
        if not held and not implied and name not in missing:
            missing.append(name)
    return missing


def missing_capabilities(proc: Path = Path("/proc")) -> list[str]:
    """Names of the rights that this process lacks; [] when it can trace.

    Args:
        proc: where procfs is mounted.

    Raises:
        KernelError: procfs can't be read.
    """
    try:
        status = (proc / "self/status").read_text()
        namespace = str((proc / "self/ns/user").readlink())
        last = int((proc / "sys/kernel/cap_last_cap").read_text())
    except OSError as error:
        raise KernelError(
            f"cannot read this process's capabilities: {error.filename}: {error.strerror}; "
            "mount procfs at /proc"
        ) from error
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    effective = int(found.group(1), 16) if found else 0
    return missing_of(effective, last, namespace == _INITIAL_USER_NAMESPACE)


def require_capabilities(proc: Path = Path("/proc")) -> None:
    """Stop before anything is built when tracing can't work.

    Raises:
        KernelError: naming each missing right and what it is for.
    """
    missing = missing_capabilities(proc)
    if missing:
        purposes = {need.name: need.why for need in NEEDS} | {
            "CAP_SYS_ADMIN": "load and attach programs"
        }
        named = ", ".join(f"{name} ({purposes[name]})" for name in missing)
        raise KernelError(
            f"cannot trace: this process lacks {named}; run it as root of the host: sudo pypwru"
        )
