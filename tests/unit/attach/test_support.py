"""Refused trials of backends: the message has the requirement of the backend's row."""

from __future__ import annotations

import errno

import pytest

from pypwru.attach import support
from pypwru.attach.support import BACKEND_FEATURES, check_supported
from pypwru.config import Backend
from pypwru.errors import KernelError
from pypwru.kernel import bpf

OMIT = "omit --backend to select one that this kernel supports"


class Trial:
    """A trial function that no probe reaches."""

    trial_addresses = (1,)
    trial_type = 1

    def __init__(self, has_tracepoint_types: bool = True) -> None:
        self.has_tracepoint_types = has_tracepoint_types


def refuse(*arguments: object, **named: object) -> int:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture
def refusing_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "program_load", refuse)
    monkeypatch.setattr(support, "open_kprobe_events", refuse)
    monkeypatch.setattr(support, "disabling_switch", lambda backend: None)


@pytest.mark.usefixtures("refusing_kernel")
@pytest.mark.parametrize(
    ("backend", "cause", "cure"),
    [
        (
            Backend.FENTRY_MULTI,
            "the kernel refuses the link (Invalid argument): it needs Linux 7.2 and CONFIG_BPF_JIT",
            OMIT,
        ),
        (
            Backend.KPROBE_MULTI,
            "the kernel refuses the link (Invalid argument): it needs Linux 5.18 and CONFIG_FPROBE",
            OMIT,
        ),
        (
            Backend.FENTRY,
            "the kernel refuses tracing programs (Invalid argument): they need Linux 5.5 and "
            "CONFIG_DEBUG_INFO_BTF",
            OMIT,
        ),
        (
            Backend.KPROBE,
            "kprobe_events of tracefs can't be used (Invalid argument): it needs "
            "CONFIG_KPROBE_EVENTS and no lockdown",
            "try --backend tracepoint",
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Backend) else None,
)
def test_refusal_names_requirement(backend: Backend, cause: str, cure: str) -> None:
    with pytest.raises(KernelError) as caught:
        check_supported(backend, Trial())
    assert (caught.value.cause, caught.value.cure) == (cause, cure)


@pytest.mark.usefixtures("refusing_kernel")
def test_tracepoint_backend_is_never_refused() -> None:
    """It is the last one: its row is for --features."""
    check_supported(Backend.TRACEPOINT, Trial())
    probe = BACKEND_FEATURES[Backend.TRACEPOINT].probe
    with pytest.raises(KernelError, match=r"raw tracepoints \(Invalid argument\): they need Linux"):
        probe(Trial())
    with pytest.raises(KernelError, match="no types of tracepoints"):
        probe(Trial(has_tracepoint_types=False))


def test_each_backend_has_a_row_in_their_order() -> None:
    assert list(BACKEND_FEATURES) == list(Backend)
    for backend, feature in BACKEND_FEATURES.items():
        assert feature.name == f"backend {backend.value}"
