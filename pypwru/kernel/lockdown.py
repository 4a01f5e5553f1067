"""The kernel's lockdown level: kernel_lockdown(7)."""

from __future__ import annotations

import re
from enum import Enum

from pypwru.errors import KernelError
from pypwru.kernel import pseudofs

MOUNT_POINTS = ("/sys/kernel/security",)


class Lockdown(Enum):
    """The levels of security/lockdown/lockdown.c; UNKNOWN if the level can't be read."""

    NONE = "none"
    INTEGRITY = "integrity"
    CONFIDENTIALITY = "confidentiality"
    UNKNOWN = "unknown"


def parse_level(text: str) -> Lockdown:
    """Return the level that is in brackets, or UNKNOWN.

    Args:
        text: content of /sys/kernel/security/lockdown, e.g. ``none [integrity] confidentiality``.
    """
    marked = re.search(r"\[(\w+)\]", text)
    try:
        return Lockdown(marked.group(1)) if marked else Lockdown.UNKNOWN
    except ValueError:
        return Lockdown.UNKNOWN


def level() -> Lockdown:
    """Return this kernel's level; NONE without the lockdown LSM, UNKNOWN if it can't be read."""
    try:
        return parse_level(pseudofs.read_file("securityfs", "lockdown", MOUNT_POINTS).decode())
    except FileNotFoundError:
        return Lockdown.NONE
    except OSError:
        return Lockdown.UNKNOWN


def require_kernel_reads() -> None:
    """Raise if lockdown prevents BPF programs from reading kernel memory.

    Newer kernels then reject a program that calls bpf_probe_read_kernel(). Linux 5.10 loads it, but
    each call fails (LOCKDOWN_BPF_READ_KERNEL of kernel/trace/bpf_trace.c): no packet would match.

    Raises:
        KernelError: the level is CONFIDENTIALITY.
    """
    if level() is Lockdown.CONFIDENTIALITY:
        raise KernelError(
            "cannot trace: kernel lockdown (confidentiality) lets no BPF program read kernel "
            "memory",
            "boot with lockdown=integrity or lockdown=none",
        )
