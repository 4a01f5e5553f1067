"""What to do about an error of the system's."""

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
def test_a_cure_is_of_the_limit_that_is_met(code: int, advice: str) -> None:
    assert remedy(OSError(code, os.strerror(code)), "run as root").startswith(advice)
