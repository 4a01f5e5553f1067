"""Names that change under a tracer on a real kernel: all are right by the storm's own log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab import results
from tests.lab.jobs.storm import COUNTS
from tests.lab.kernels import names
from tests.support import storm

pytestmark = pytest.mark.lab
SUITE = "storm"
KERNELS = names(SUITE)


@pytest.mark.parametrize("kind", [*COUNTS])
@pytest.mark.parametrize("kernel", KERNELS)
def test_no_name_is_wrong(
    kernel: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results.step(kernel, SUITE, kind)
    assert found["status"] == 0, found["err"]
    log = tmp_path / "log"
    log.write_text(found["log"])
    rows = [json.loads(line) for line in found["out"].splitlines()]
    if kind == "processes":
        made = Path(results.result(kernel, SUITE)["storm"])
        checked = storm.check_processes(rows, log, made)
    elif kind == "namespaces":
        checked = storm.check_namespaces(rows, log)
    else:
        checked = storm.check_renames(rows, log)
    with capsys.disabled():
        print(f"\n{kernel}: {kind}: {checked}")
    assert not checked.wrong, checked.wrong[:5]
    assert len(checked.packets) >= COUNTS[kind]
    assert checked.right > checked.unknown / 4
