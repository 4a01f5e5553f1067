"""Which kernel modules are there."""

from __future__ import annotations

import os


def load_of(module: str) -> int:
    """A number that this load of the module has and no other; 0 while it is not there.

    Asking does not load it. What is built in need not show.
    """
    try:
        return os.stat(f"/sys/module/{module}").st_ino  # kernfs counts on
    except OSError:
        return 0
