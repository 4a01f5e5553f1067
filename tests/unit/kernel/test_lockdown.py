"""What is said of a kernel that is locked down; its levels are read in test_ftrace.py."""

from __future__ import annotations

import pytest

from pypwru.errors import KernelError
from pypwru.kernel import pseudofs
from pypwru.kernel.lockdown import require_kernel_reads


def locked(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(pseudofs, "read_file", lambda *_: text.encode())


def test_confidentiality_lets_no_backend_read_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    locked(monkeypatch, "none integrity [confidentiality]\n")
    with pytest.raises(KernelError, match=r"lockdown \(confidentiality\).*boot with") as caught:
        require_kernel_reads()
    assert "--backend" not in str(caught.value)


@pytest.mark.parametrize("text", ["[none] integrity", "none [integrity] confidentiality", ""])
def test_other_levels_do(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    locked(monkeypatch, text)
    require_kernel_reads()
