"""Identity of loaded kernel modules."""

from __future__ import annotations

import os


def module_instance_id(module: str) -> int:
    """Return a number that identifies this instance of a loaded module; 0 if it isn't loaded.

    A module that is unloaded and loaded again gets another number. This doesn't load the module. A
    built-in one may have no directory in /sys/module: 0 then, too.
    """
    try:
        return os.stat(f"/sys/module/{module}").st_ino  # kernfs doesn't reuse inode numbers
    except OSError:
        return 0
