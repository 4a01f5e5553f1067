"""How far this kernel keeps root out of itself: kernel_lockdown(7)."""

from __future__ import annotations

import re
from enum import Enum

from pypwru.errors import KernelError
from pypwru.kernel import pseudofs

MOUNTED = ("/sys/kernel/security",)


class Lockdown(Enum):
    """The levels of security/lockdown/lockdown.c, and what is said where they can't be read."""

    NONE = "none"
    INTEGRITY = "integrity"
    CONFIDENTIALITY = "confidentiality"
    UNKNOWN = "unknown"


def parse(text: str) -> Lockdown:
    """The level that ``/sys/kernel/security/lockdown`` marks by brackets.

    Args:
        text: the file's content, e.g. ``none [integrity] confidentiality``.
    """
    marked = re.search(r"\[(\w+)\]", text)
    try:
        return Lockdown(marked.group(1)) if marked else Lockdown.UNKNOWN
    except ValueError:
        return Lockdown.UNKNOWN


def level() -> Lockdown:
    """This kernel's level; NONE without the lockdown module, UNKNOWN where it can't be read."""
    try:
        return parse(pseudofs.read_file("securityfs", "lockdown", MOUNTED).decode())
    except FileNotFoundError:
        return Lockdown.NONE
    except OSError:
        return Lockdown.UNKNOWN


def require_kernel_reads() -> None:
    """Stop where BPF programs can't read kernel memory, whatever they are attached to.

    Newer kernels then refuse a program that calls bpf_probe_read_kernel(); 5.10 takes it, and each
    call fails (LOCKDOWN_BPF_READ_KERNEL of kernel/trace/bpf_trace.c): no packet would match.

    Raises:
        KernelError: the level is CONFIDENTIALITY.
    """
    if level() is Lockdown.CONFIDENTIALITY:
        raise KernelError(
            "cannot trace: kernel lockdown (confidentiality) lets no BPF program read kernel "
            "memory; boot with lockdown=integrity or lockdown=none"
        )
