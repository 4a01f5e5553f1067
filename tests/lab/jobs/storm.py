"""Runs inside a guest: names that change while they are traced (tests/support/storm.c).

    python -m tests.lab.jobs.storm FOLDER

FOLDER has the storm's programs and gets result.json, which is checked on the host (test_storm.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.steps import run_steps
from tests.lab.jobs.tracer import StepResult, tracer
from tests.support import storm
from tests.support.paths import TREE

COUNTS = {"renames": 200, "namespaces": 1_000, "processes": 2_000}
"""A process takes an emulated guest some 20 ms; natively there are more of them."""
LONGEST = 400_000
"""us that a process stays after it sent: enough for a reader who has half an emulated CPU."""
NAME = "storm"
NETWORKS = {
    "processes": storm.PROCESSES, "namespaces": storm.NAMESPACES, "renames": storm.RENAMES,
}  # fmt: skip


def words(kind: str) -> list[str]:
    """Return pypwru's arguments."""
    return [*storm.FLAGS, "--priority=0", storm.filter_of(NETWORKS[kind])]


def commands() -> list[list[str]]:
    """Return the command lines of this job, for the cache that the host fills."""
    return [words(kind) for kind in COUNTS]


def more(kind: str, programs: Sequence[Path]) -> list[str]:
    """Return the last arguments of a storm."""
    if kind == "processes":
        return [str(LONGEST), *(str(program.parent) for program in programs[1:])]
    return [f"{NAME}-"] if kind == "namespaces" else []


def traced(folder: Path, programs: Sequence[Path], kind: str) -> StepResult:
    """Trace a storm, from its beginning to its end."""
    log = folder / f"{kind}.log"
    inside = [] if kind == "namespaces" else ["ip", "netns", "exec", NAME]
    made = [str(programs[0]), kind, str(log), str(COUNTS[kind]), *more(kind, programs)]
    with tracer(folder, kind, "pypwru", *words(kind), start=Forked) as own:
        own.wait_ready()
        subprocess.run([*inside, *made], check=True)
        return {**own.stop(), "log": log.read_text()}


def main() -> None:
    shared = Path(sys.argv[1])
    os.environ["PYPWRU_CACHE"] = str(shared / "cache")
    os.environ["PYTHONPATH"] = str(TREE)
    folder = Path("/run/s")
    folder.mkdir()
    # Short paths, which a line has whole, and of the guest's own memory.
    subprocess.run(["cp", "-r", *map(str, shared.glob("programs/*")), str(folder)], check=True)
    programs = storm.programs(folder)
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    subprocess.run(["ip", "-n", NAME, "link", "set", "lo", "up"], check=True)
    share()
    result: dict[str, object] = {"storm": str(programs[0])}
    steps = [(kind, partial(traced, folder, programs, kind)) for kind in COUNTS]
    run_steps(steps, result, shared / "result.json")


if __name__ == "__main__":
    main()
