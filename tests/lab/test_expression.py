"""Every kernel's verifier takes C expressions over its own structs, and finds them true."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from tests.lab.vm import boots, packages
from tests.lab.vm.boots import Boot, Result

COMMANDS = """
PYPWRU_TESTS=all python -m pytest -q -p no:cacheprovider tests/native/test_expression_load.py &&
    python -m tests.lab.jobs.expression
"""
pytestmark = pytest.mark.lab


def begun(kernel: str) -> Future[Result]:
    return boots.begun(_run, kernel)


def _run(kernel: str) -> Result:
    """Status and output of ``COMMANDS``, which may fail."""
    with tempfile.TemporaryDirectory() as folder:
        script = (
            f'(eval "$1") >{folder}/said 2>&1; echo "{{\\"status\\": $?}}" >{folder}/result.json'
        )
        result = boots.run(kernel, Path(folder), ["sh", "-c", script, "sh", COMMANDS])
        return {**result, "said": Path(folder, "said").read_text()}


BOOTS = [Boot(1, partial(begun, kernel)) for kernel in packages.KERNELS]


@pytest.mark.parametrize("kernel", packages.KERNELS)
def test_the_verifier_of(kernel: str) -> None:
    seen = boots.result(begun(kernel))
    assert seen["status"] == 0, seen["said"]
    assert " tracing programs load" in seen["said"]
