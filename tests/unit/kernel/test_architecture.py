"""Unsupported machines get one clear error, before anything else fails."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace

import pytest

from pypwru.errors import KernelError
from pypwru.kernel import bpf


@pytest.mark.parametrize(
    ("machine", "pointer", "description"),
    [("riscv64", 8, "this is riscv64, 64 bits"), ("x86_64", 4, "this is x86_64, 32 bits")],
)
def test_other_machines_are_refused(
    monkeypatch: pytest.MonkeyPatch, machine: str, pointer: int, description: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(struct, "calcsize", lambda format: pointer)
    with pytest.raises(KernelError, match=f"x86-64 and arm64.*{description}"):
        bpf.require_architecture()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_supported_machines(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    bpf.require_architecture()
