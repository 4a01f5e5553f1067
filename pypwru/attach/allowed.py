"""Check whether this kernel supports a backend, by attaching it to one function."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pypwru.config import Backend
from pypwru.errors import KernelError
from pypwru.filter.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType, Target
from pypwru.kernel.bpf_tracing import tracing_multi_link
from pypwru.kernel.descriptors import owned
from pypwru.kernel.kprobe_events import kprobe_events
from pypwru.kernel.switches import silenced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_NOTHING = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])
TRIED = "kernel_restart"
"""Function on which backends are tried: in every kernel, ftrace can hook it, no packet runs it.

All its arguments are scalars: fentry refuses arguments of more than 16 bytes, such as a va_list on
arm64 (kernel/bpf/btf.c:btf_distill_func_proto()).
"""
_OTHERS = "omit --backend to select one that this kernel supports"


class Kernel(Protocol):
    """Addresses and type of the trial function, looked up only on access."""

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """Addresses of TRIED in kallsyms; () if it has none."""

    @property
    def trial_type(self) -> int:
        """BTF type id of TRIED in vmlinux; 0 if it has none."""


def require(backend: Backend, kernel: Kernel) -> None:
    """Attach (fentry: load) a program by ``backend`` for a moment; nothing is left behind.

    Args:
        backend: to check; the tracepoint backend always passes.
        kernel: the trial function.

    Raises:
        KernelError: the kernel lacks the backend, a privilege is missing, or a sysctl or debugfs
            switch disables its probes.
    """
    if switch := silenced(backend):
        raise KernelError(
            f"{switch.name} is switched off ({switch.path} is 0), and no probe would fire; "
            f"echo 1 > {switch.path}, or {_OTHERS}"
        )
    _TRIALS[backend](kernel)


def _kprobe_multi(kernel: Kernel) -> None:
    addresses = kernel.trial_addresses[:1]
    kind = ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI
    try:
        program = bpf.program_load(kind[0], "probe", _NOTHING, kind[1])
        with owned(program), owned(bpf.kprobe_multi_link(program, list(addresses))):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses the link ({os.strerror(error.errno or 0)}): it needs Linux 5.18 "
            f"and CONFIG_FPROBE; {_OTHERS}"
        ) from error


def _kprobe(kernel: Kernel) -> None:
    try:
        with kprobe_events():
            return
    except OSError as error:
        raise KernelError(
            f"kprobe_events of tracefs can't be used ({error.strerror}): it needs "
            "CONFIG_KPROBE_EVENTS and no lockdown; try --backend tracepoint"
        ) from error


def _fentry(kernel: Kernel) -> None:
    """Only load the program: detaching a single one takes a tenth of a second on many kernels."""
    try:
        with owned(_tracing(Target(kernel.trial_type))):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses tracing programs ({os.strerror(error.errno or 0)}): they need "
            f"Linux 5.5 and CONFIG_DEBUG_INFO_BTF; {_OTHERS}"
        ) from error


def _fentry_multi(kernel: Kernel) -> None:
    try:
        program = _tracing(Target(0, attach=AttachType.TRACE_FENTRY_MULTI))
        with owned(program), owned(tracing_multi_link(program, [kernel.trial_type])):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses the link ({os.strerror(error.errno or 0)}): it needs Linux 7.2 "
            f"and CONFIG_BPF_JIT; {_OTHERS}"
        ) from error


def _tracing(target: Target) -> int:
    return bpf.program_load(ProgramType.TRACING, "probe", _NOTHING, target=target)


_TRIALS: Mapping[Backend, Callable[[Kernel], None]] = {
    Backend.FENTRY_MULTI: _fentry_multi,
    Backend.KPROBE_MULTI: _kprobe_multi,
    Backend.FENTRY: _fentry,
    Backend.KPROBE: _kprobe,
    Backend.TRACEPOINT: lambda kernel: None,
}
