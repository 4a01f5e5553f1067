"""Kernels of the lab, and bench programs that measure in a guest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.lab.vm.packages import KERNELS as KERNELS

TREE = Path(__file__).resolve().parent.parent
NATIVE = "native"
"""In the place of a kernel's name: this machine's own."""


def command(
    kernel: str, words: Sequence[str], timeout: int, shared: Sequence[Path] = ()
) -> list[str]:
    """The command that runs ``words`` in a guest, in the tree.

    Args:
        timeout: seconds until the guest is stopped.
        shared: folders that it may write.
    """
    folders = [word for folder in shared for word in ("--rwdir", str(folder))]
    boot = [str(TREE / "tests" / "lab" / "boot"), kernel, "--timeout", str(timeout), *folders]
    return [*boot, "--", *words]


def measure_inside(kernel: str, *words: str, timeout: int = 900, cache: Path | None = None) -> None:
    """Run the calling program in a guest, with --inside and ``words``; a failure ends this one.

    Args:
        timeout: seconds until the guest is stopped.
        cache: pypwru's in the guest, filled beforehand.
    """
    program = Path(sys.argv[0]).name
    inside = ["python", f"bench/{program}", "--inside", *words]
    if cache:
        inside = ["env", f"PYPWRU_CACHE={cache}", *inside]
    if status := subprocess.call(command(kernel, inside, timeout, [cache] if cache else [])):
        sys.exit(status)


def fill_cache(kernel: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Compile here what runs of pypwru will load on ``kernel``, where that is fast.

    Args:
        folder: the cache.
        commands: arguments of the runs.
    """
    from tests.lab.vm.boots import compile_for  # pytest with it, which takes long in a guest

    compile_for(kernel, folder, commands)
