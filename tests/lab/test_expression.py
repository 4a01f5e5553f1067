"""Every kernel's verifier takes C expressions over its own structs, and finds them true."""

from __future__ import annotations

import pytest

from tests.lab import results
from tests.lab.kernels import names

pytestmark = pytest.mark.lab
SUITE = "expression"


@pytest.mark.parametrize("kernel", names(SUITE))
def test_the_verifier_of(kernel: str) -> None:
    natively, tracing = (results.step(kernel, SUITE, name) for name in ("native", "tracing"))
    assert natively["status"] == 0, natively["out"]
    assert tracing["loaded"] > 1
