"""The steps of a guest's job, one after the other, with their results in one file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.jobs.tracer import StepResult

Step = tuple[str, Callable[[], StepResult]]


def run_steps(steps: Sequence[Step], result: dict[str, object], file: Path) -> None:
    """Run all steps; one that fails is an ``error`` in its place, and fails its own tests alone.

    Left out are those that ``PYPWRU_LAB_WITHOUT`` names, by their first word, separated by commas.

    Args:
        result: grows by an entry a step.
        file: has ``result`` as JSON after each of them.
    """
    without = os.environ.get("PYPWRU_LAB_WITHOUT", "").split(",")
    for name, step in steps:
        if name.partition(" ")[0] in without:
            continue
        began = time.monotonic()
        try:
            result[name] = step()
        except Exception as error:  # any error: the other steps can still be checked
            result[name] = {"error": repr(error)}
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        file.write_text(json.dumps(result))
