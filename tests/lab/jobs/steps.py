"""The steps of a guest's job, one after the other, what each saw in one file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.jobs.tracer import Seen

Step = tuple[str, Callable[[], Seen]]


def run_steps(steps: Sequence[Step], result: dict[str, object], file: Path) -> None:
    """Do them all; one that fails is an ``error`` in its place, and fails its own tests alone.

    Args:
        result: grows by an entry a step.
        file: has ``result`` as JSON after each of them.
    """
    for name, step in steps:
        began = time.monotonic()
        try:
            result[name] = step()
        except Exception as error:  # whatever it is, the others can be judged
            result[name] = {"error": repr(error)}
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        file.write_text(json.dumps(result))
