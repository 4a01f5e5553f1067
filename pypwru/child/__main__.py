"""The child process: call the function that standard input names, write JSON to standard output.

``Child`` runs this folder with ``python -S``, so that no other folder is searched for modules
before the parent's search path is known.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from importlib import import_module
from typing import Any

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def main() -> None:
    """Read one request, call its function, and write the result."""
    with open(0, "rb", closefd=False) as file:
        request = json.load(file)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != request["parent"]:  # the parent ended before prctl()
        os._exit(1)
    os.nice(request["nice"])
    result_fd = os.dup(1)
    os.dup2(2, 1)  # keep text that a library prints out of the result
    sys.path[0] = request["root"]
    import_module("pypwru")  # the copy in this tree, whichever comes first in the search path
    sys.path[:] = request["path"]
    with open(result_fd, "w") as file:
        json.dump(_call(request["function"], request["arguments"]), file)
    os._exit(0)  # without LLVM's teardown, which is slow


def _call(function: str, arguments: list[Any]) -> dict[str, Any]:
    from pypwru.errors import ChildError, PypwruError

    module, _, name = function.partition(":")
    try:
        return {"result": getattr(import_module(module), name)(*arguments)}
    except MemoryError:
        error: PypwruError = ChildError("A child process is out of memory (ulimit -v)")
    except PypwruError as raised:
        error = raised
    return {"error": [type(error).__name__, error.cause, error.cure, error.detail]}


if __name__ == "__main__":
    main()
