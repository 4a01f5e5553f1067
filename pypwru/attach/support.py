"""Check whether this kernel supports a backend, by attaching it to one function."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pypwru.asm.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.attach.kernel_switches import disabling_switch
from pypwru.config import Backend
from pypwru.errors import KernelError
from pypwru.fds import closing_fd
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachTarget, AttachType, ProgramType
from pypwru.kernel.bpf_links import tracing_multi_link
from pypwru.kernel.kprobe_events import open_kprobe_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_RETURN_ZERO = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])
TRIAL_FUNCTION = "kernel_restart"
"""Function on which backends are tried: in every kernel, ftrace can hook it, no packet runs it.

All its arguments are scalars: fentry refuses arguments of more than 16 bytes, such as a va_list on
arm64 (kernel/bpf/btf.c:btf_distill_func_proto()).
"""
_CURE_BACKEND = "omit --backend to select one that this kernel supports"


class TrialTarget(Protocol):
    """Addresses and type of the trial function, looked up only on access."""

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """Addresses of TRIAL_FUNCTION in kallsyms; () if it has none."""

    @property
    def trial_type(self) -> int:
        """BTF type id of TRIAL_FUNCTION in vmlinux; 0 if it has none."""


def check_supported(backend: Backend, trial: TrialTarget) -> None:
    """Attach (fentry: load) a program by ``backend`` for a moment; nothing is left behind.

    Args:
        backend: to check; the tracepoint backend always passes.
        trial: the trial function.

    Raises:
        KernelError: the kernel lacks the backend, a privilege is missing, or a sysctl or debugfs
            switch disables its probes.
    """
    if switch := disabling_switch(backend):
        raise KernelError(
            f"{switch.name} is switched off ({switch.path} is 0), and no probe would fire",
            f"echo 1 > {switch.path}, or {_CURE_BACKEND}",
        )
    _TRIALS[backend](trial)


def _try_kprobe_multi(trial: TrialTarget) -> None:
    addresses = trial.trial_addresses[:1]
    program_type = ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI
    try:
        program = bpf.program_load(program_type[0], "probe", _RETURN_ZERO, program_type[1])
        with closing_fd(program), closing_fd(bpf.kprobe_multi_link(program, list(addresses))):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses the link ({os.strerror(error.errno or 0)}): it needs Linux 5.18 "
            "and CONFIG_FPROBE",
            _CURE_BACKEND,
        ) from error


def _try_kprobe(trial: TrialTarget) -> None:
    try:
        with open_kprobe_events():
            return
    except OSError as error:
        raise KernelError(
            f"kprobe_events of tracefs can't be used ({error.strerror}): it needs "
            "CONFIG_KPROBE_EVENTS and no lockdown",
            "try --backend tracepoint",
        ) from error


def _try_fentry(trial: TrialTarget) -> None:
    """Only load the program: detaching a single one takes a tenth of a second on many kernels."""
    try:
        with closing_fd(_load_tracing_program(AttachTarget(trial.trial_type))):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses tracing programs ({os.strerror(error.errno or 0)}): they need "
            "Linux 5.5 and CONFIG_DEBUG_INFO_BTF",
            _CURE_BACKEND,
        ) from error


def _try_fentry_multi(trial: TrialTarget) -> None:
    try:
        program = _load_tracing_program(AttachTarget(0, attach_type=AttachType.TRACE_FENTRY_MULTI))
        with closing_fd(program), closing_fd(tracing_multi_link(program, [trial.trial_type])):
            return
    except OSError as error:
        raise KernelError(
            f"the kernel refuses the link ({os.strerror(error.errno or 0)}): it needs Linux 7.2 "
            "and CONFIG_BPF_JIT",
            _CURE_BACKEND,
        ) from error


def _load_tracing_program(target: AttachTarget) -> int:
    return bpf.program_load(ProgramType.TRACING, "probe", _RETURN_ZERO, target=target)


_TRIALS: Mapping[Backend, Callable[[TrialTarget], None]] = {
    Backend.FENTRY_MULTI: _try_fentry_multi,
    Backend.KPROBE_MULTI: _try_kprobe_multi,
    Backend.FENTRY: _try_fentry,
    Backend.KPROBE: _try_kprobe,
    Backend.TRACEPOINT: lambda kernel: None,
}
