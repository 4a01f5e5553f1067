"""The steps of a guest's job, one after the other, what each saw in one file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.jobs.tracer import Seen

Step = tuple[str, Callable[[], Seen]]


def run_steps(steps: Sequence[Step], result: dict[str, object], file: Path) -> None:
    """Do them all; one that fails is an ``error`` in its place, and fails its own tests alone.

    Left out are those that ``PYPWRU_LAB_WITHOUT`` names, by their first word, apart by commas.

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
        except Exception as error:  # whatever it is, the others can be judged
            result[name] = {"error": repr(error)}
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        file.write_text(json.dumps(result))
