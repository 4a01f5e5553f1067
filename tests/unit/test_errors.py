"""Remedies for errors of system calls."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from pypwru.errors import remedy


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
