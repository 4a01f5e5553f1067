"""The backends as features of the kernel, each probed by attaching it to one function."""

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
from pypwru.kernel.feature import Feature
from pypwru.kernel.kprobe_events import open_kprobe_events

if TYPE_CHECKING:
    from collections.abc import Mapping


_RETURN_ZERO = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])
TRIAL_FUNCTION = "kernel_restart"
"""Function on which backends are tried: in every kernel, ftrace can hook it, no packet runs it.

All its arguments are scalars: fentry refuses arguments of more than 16 bytes, such as a va_list on
arm64 (kernel/bpf/btf.c:btf_distill_func_proto()).
"""
TRIAL_TRACEPOINT_TYPE = "btf_trace_kfree_skb"
"""Type of a raw tracepoint that every kernel has."""
_CURE_BACKEND = "omit --backend to select one that this kernel supports"


class TrialTarget(Protocol):
    """Addresses and type of the trial function, looked up only on access."""

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """Addresses of TRIAL_FUNCTION in kallsyms; () if it has none."""

    @property
    def trial_type(self) -> int:
        """BTF type id of TRIAL_FUNCTION in vmlinux; 0 if it has none."""

    @property
    def has_tracepoint_types(self) -> bool:
        """Whether the BTF of vmlinux has the types of raw tracepoints."""


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
    if backend is not Backend.TRACEPOINT:
        BACKEND_FEATURES[backend].probe(trial)


def _try_kprobe_multi(trial: TrialTarget) -> str:
    addresses = trial.trial_addresses[:1]
    program_type = ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI
    try:
        program = bpf.program_load(program_type[0], "probe", _RETURN_ZERO, program_type[1])
        with closing_fd(program), closing_fd(bpf.kprobe_multi_link(program, list(addresses))):
            return ""
    except OSError as error:
        raise _refused(Backend.KPROBE_MULTI, "the link", error) from error


def _try_kprobe(trial: TrialTarget) -> str:
    try:
        with open_kprobe_events():
            return ""
    except OSError as error:
        (option,) = BACKEND_FEATURES[Backend.KPROBE].options
        raise KernelError(
            f"kprobe_events of tracefs can't be used ({error.strerror}): it needs {option} and no "
            "lockdown",
            "try --backend tracepoint",
        ) from error


def _try_fentry(trial: TrialTarget) -> str:
    """Only load the program: detaching a single one takes a tenth of a second on many kernels."""
    try:
        with closing_fd(_load_tracing_program(AttachTarget(trial.trial_type))):
            return ""
    except OSError as error:
        raise _refused(Backend.FENTRY, "tracing programs", error) from error


def _try_fentry_multi(trial: TrialTarget) -> str:
    try:
        program = _load_tracing_program(AttachTarget(0, attach_type=AttachType.TRACE_FENTRY_MULTI))
        with closing_fd(program), closing_fd(tracing_multi_link(program, [trial.trial_type])):
            return ""
    except OSError as error:
        raise _refused(Backend.FENTRY_MULTI, "the link", error) from error


def _try_tracepoint(trial: TrialTarget) -> str:
    """Only load the program: every raw tracepoint has packets."""
    if not trial.has_tracepoint_types:
        raise KernelError("the kernel's BTF has no types of tracepoints", _CURE_BACKEND)
    try:
        with closing_fd(bpf.program_load(ProgramType.RAW_TRACEPOINT, "probe", _RETURN_ZERO)):
            return ""
    except OSError as error:
        raise _refused(Backend.TRACEPOINT, "raw tracepoints", error) from error


def _refused(backend: Backend, what: str, error: OSError) -> KernelError:
    """Return the error of a refused trial.

    Args:
        backend: of the trial.
        what: the kernel refuses.
        error: of the system call.
    """
    verb = "they need" if what.endswith("s") else "it needs"
    return KernelError(
        f"the kernel refuses {what} ({os.strerror(error.errno or 0)}): {verb} "
        f"{BACKEND_FEATURES[backend].requirement}",
        _CURE_BACKEND,
    )


def _load_tracing_program(target: AttachTarget) -> int:
    return bpf.program_load(ProgramType.TRACING, "probe", _RETURN_ZERO, target=target)


BACKEND_FEATURES: Mapping[Backend, Feature] = {
    Backend.FENTRY_MULTI: Feature(
        "backend fentry-multi",
        since="7.2",
        options=("CONFIG_BPF_JIT",),
        probe=_try_fentry_multi,
        cost="each hit takes longer: kprobe-multi or kprobe is taken instead",
    ),
    Backend.KPROBE_MULTI: Feature(
        "backend kprobe-multi",
        since="5.18",
        options=("CONFIG_FPROBE",),
        probe=_try_kprobe_multi,
        cost="without fentry-multi, each hit takes longer: kprobe is taken instead",
    ),
    Backend.FENTRY: Feature(
        "backend fentry",
        since="5.5",
        options=("CONFIG_DEBUG_INFO_BTF",),
        probe=_try_fentry,
        cost="without fentry-multi, a trace of a few functions takes longer for each hit",
    ),
    # Many kprobes of one trace event: kernel/kprobe_events.py.
    Backend.KPROBE: Feature(
        "backend kprobe",
        since="5.4",
        options=("CONFIG_KPROBE_EVENTS",),
        probe=_try_kprobe,
        cost="where no backend above is left, only tracepoints are traced, and no rules",
    ),
    # Linux commit e8c423fb31fa ("bpf: Add typecast to raw_tracepoints to help BTF generation")
    # (in v5.5): raw tracepoints are found by these types (discovery/tracepoints.py).
    Backend.TRACEPOINT: Feature(
        "backend tracepoint",
        since="5.5",
        options=("CONFIG_DEBUG_INFO_BTF",),
        probe=_try_tracepoint,
        cost="nothing is traced where functions can't be",
    ),
}
"""Backend -> its feature; the order is that of Backend."""
