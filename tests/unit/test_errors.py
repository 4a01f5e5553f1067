"""The fields of errors, and remedies for errors of system calls."""

from __future__ import annotations

import ast
import copy
import errno
import os
import resource
from pathlib import Path

import pytest

from pypwru import errors
from pypwru.errors import KernelError, UsageError, remedy
from tests.support.paths import TREE

ERRORS = {
    name
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, errors.PypwruError)
}
# Its second half is no cure: what this machine is.
WITHOUT_CURE = "pypwru runs on x86-64 and arm64, by a 64-bit Python; this is "


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EMFILE, f"raise the limit of {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} open"),
        (errno.ENFILE, "raise the limit of open files of all processes: sysctl fs.file-max"),
        (errno.EPERM, "run as root"),
    ],
)
def test_remedy_names_the_limit(code: int, advice: str) -> None:
    assert remedy(OSError(code, os.strerror(code)), "run as root").startswith(advice)


def test_text_is_cause_and_cure() -> None:
    error = KernelError("cannot read it: refused", "run as root", "the log")
    assert str(error) == "cannot read it: refused; run as root"
    assert (error.cause, error.cure, error.detail) == (
        "cannot read it: refused",
        "run as root",
        "the log",
    )
    assert str(copy.copy(error)) == str(error) and copy.copy(error).cure == "run as root"


def test_error_without_cure() -> None:
    error = UsageError("flag needs an argument: --backend", hint="take kprobe")
    assert str(error) == error.cause == "flag needs an argument: --backend"
    assert (error.cure, error.detail, error.hint) == ("", "", "take kprobe")


def _constant_text(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))


@pytest.mark.parametrize(
    "path", sorted(TREE.glob("pypwru/**/*.py")), ids=lambda path: str(path.relative_to(TREE))
)
def test_no_cause_includes_a_cure(path: Path) -> None:
    """What follows "; " is the cure, and an argument of its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ERRORS:
            continue
        cause = _constant_text(node.args[0])
        expected = "no BTF of kernel module " in cause or cause.startswith(WITHOUT_CURE)
        assert expected or "; " not in cause, cause
