"""Lab kernels, and how a bench program runs itself in a guest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.lab.vm.packages import KERNELS as KERNELS

TREE = Path(__file__).resolve().parent.parent
NATIVE = "native"
"""Name of this machine's own kernel."""


def guest_command(
    kernel: str, words: Sequence[str], timeout: int, shared: Sequence[Path] = ()
) -> list[str]:
    """Return the command that runs another command in a guest, in the source tree.

    Args:
        kernel: name of a lab kernel.
        words: command for the guest.
        timeout: seconds until the guest is stopped.
        shared: folders that the guest may write.
    """
    folders = [word for folder in shared for word in ("--rwdir", str(folder))]
    boot = [str(TREE / "tests" / "lab" / "boot"), kernel, "--timeout", str(timeout), *folders]
    return [*boot, "--", *words]


def measure_inside(kernel: str, *words: str, timeout: int = 900, cache: Path | None = None) -> None:
    """Run the calling program in a guest with --inside; exit with its status if it fails.

    Args:
        kernel: name of a lab kernel.
        words: further arguments.
        timeout: seconds until the guest is stopped.
        cache: folder of pypwru's cache in the guest, filled beforehand.

    Raises:
        SystemExit: the program failed.
    """
    program = Path(sys.argv[0]).name
    inside = ["python", f"bench/{program}", "--inside", *words]
    if cache:
        inside = ["env", f"PYPWRU_CACHE={cache}", *inside]
    if status := subprocess.call(guest_command(kernel, inside, timeout, [cache] if cache else [])):
        sys.exit(status)


def fill_cache(kernel: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Compile here, where it is fast, the BPF programs of later runs of pypwru in a guest.

    Args:
        kernel: name of a lab kernel.
        folder: of the cache.
        commands: arguments of the runs.
    """
    from tests.lab.vm.boots import compile_for  # imports pytest, which takes long in a guest

    compile_for(kernel, folder, commands)
