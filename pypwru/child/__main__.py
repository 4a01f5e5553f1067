"""The child: calls the function that standard input names, and writes JSON to standard output.

``Child`` runs this folder without site-packages, so that nothing but it is searched for modules
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
    """Answer one request."""
    with open(0, "rb", closefd=False) as file:
        request = json.load(file)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != request["parent"]:  # it ended before that
        os._exit(1)
    os.nice(request["nice"])
    answer = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    sys.path[0] = request["root"]
    import_module("pypwru")  # this one, wherever the parent found it
    sys.path[:] = request["path"]
    with open(answer, "w") as file:
        json.dump(_called(request["function"], request["arguments"]), file)
    os._exit(0)  # LLVM has a lot to tear down


def _called(function: str, arguments: list[Any]) -> dict[str, Any]:
    from pypwru.errors import ChildError, PypwruError

    module, _, name = function.partition(":")
    try:
        return {"result": getattr(import_module(module), name)(*arguments)}
    except MemoryError:
        error: PypwruError = ChildError("A child process has no memory left (ulimit -v)")
    except PypwruError as raised:
        error = raised
    return {"error": [type(error).__name__, str(error), error.detail]}


if __name__ == "__main__":
    main()
