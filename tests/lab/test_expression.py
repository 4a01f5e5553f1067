"""Every kernel's verifier accepts C expressions over its own structs, and its packets match
them.
"""

from __future__ import annotations

import pytest

from tests.lab import results
from tests.lab.kernels import names

pytestmark = pytest.mark.lab
SUITE = "expression"


@pytest.mark.parametrize("kernel", names(SUITE))
def test_verifier_accepts_expressions(kernel: str) -> None:
    natively, tracing = (results.step(kernel, SUITE, name) for name in ("native", "tracing"))
    assert natively["status"] == 0, natively["out"]
    assert tracing["loaded"] > 1
