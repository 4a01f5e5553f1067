"""Records pwru's output of each invocation, as the reference of the parity suite.

    PYPWRU_LAB_PWRU=/path/to/pwru .venv/bin/python -m tests.lab.parity.record [NAME...]

Writes tests/data/pwru_head/KERNEL.json, of the NAMEs alone when there are any.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.kernels import REFERENCE
from tests.lab.net import topology
from tests.lab.parity.invocations import INVOCATIONS, NO_FLOW
from tests.lab.parity.results import RECORDED
from tests.lab.vm.boots import BOOT

_SECONDS = "2700"
_ENOUGH = 20  # lines of outputs that differ in each boot: only their form is compared


def lines(text: str) -> list[str]:
    """Split ``text`` to lines, as a file of recordings has it: diffs of it are readable."""
    return text.splitlines()


def keep(result: Mapping[str, Any]) -> None:
    """Write a boot's results to the file of recordings."""
    file = RECORDED
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"invocations": {}}
    for name, seen in result["invocations"].items():
        if "error" in seen:
            print(f"{name}: {seen['error']}", file=sys.stderr)
            continue
        theirs = seen["pwru"]
        kept["invocations"][name] = {
            "status": theirs["status"],
            "out": lines(theirs["out"])[: _ENOUGH if INVOCATIONS[name].steady == NO_FLOW else None],
            "err": [line for line in lines(theirs["err"]) if "[--" not in line][-3:],
        }
    invocations = kept["invocations"]
    ordered = {name: invocations[name] for name in INVOCATIONS if name in invocations}
    about = {"kernel": result["kernel"], "pwru": result["pwru"]}
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "invocations": ordered}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n")


def main() -> None:
    names = sys.argv[1:] or [*INVOCATIONS]
    with tempfile.TemporaryDirectory() as name:
        topology.build_programs(Path(name))
        vm: list[str] = [str(BOOT), REFERENCE, "--timeout", _SECONDS, "--rwdir", name, "--"]
        guest: list[str] = ["python", "-m", "tests.lab.parity.guest", name, "--record", *names]
        subprocess.run([*vm, *guest], check=True)
        keep(json.loads(Path(name, "result.json").read_text()))


if __name__ == "__main__":
    main()
