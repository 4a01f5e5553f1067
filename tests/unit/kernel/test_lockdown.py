"""Errors on a kernel that is locked down; test_ftrace.py reads its levels."""

from __future__ import annotations

import pytest

from pypwru.errors import KernelError
from pypwru.kernel import pseudofs
from pypwru.kernel.lockdown import require_kernel_reads


def set_lockdown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(pseudofs, "read_file", lambda *_: text.encode())


def test_confidentiality_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_lockdown(monkeypatch, "none integrity [confidentiality]\n")
    with pytest.raises(KernelError, match=r"lockdown \(confidentiality\).*boot with") as caught:
        require_kernel_reads()
    assert "--backend" not in str(caught.value)


@pytest.mark.parametrize("text", ["[none] integrity", "none [integrity] confidentiality", ""])
def test_other_levels_are_accepted(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    set_lockdown(monkeypatch, text)
    require_kernel_reads()
