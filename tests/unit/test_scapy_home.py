"""Importing scapy touches nothing in the caller's home; the oracle is CPython's audit hook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT_PROGRAM = """
import os, sys
found = set()
home = os.environ["HOME"]
def note(event, arguments):
    if any(isinstance(one, (str, os.PathLike)) and home in os.fspath(one) for one in arguments):
        found.add(event)
    if event == "pickle.find_class":
        found.add(event)
sys.addaudithook(note)
before = dict(os.environ)
__import__(sys.argv[1])
assert os.environ == before
print(sorted(found))
"""


@pytest.mark.parametrize("module", ["pypwru.pcap.classic", "pypwru.api.scapy_packet"])
@pytest.mark.parametrize("has_xdg", [False, True])
def test_import_touches_no_home(tmp_path: Path, module: str, has_xdg: bool) -> None:
    cache = tmp_path / ".cache" / "scapy"
    cache.mkdir(parents=True)
    for name in ("ethertypes", "services", "manufdb"):
        for suffix in ("", ".pickle"):
            (cache / f"{name}{suffix}").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    environment = {name: value for name, value in os.environ.items() if "XDG" not in name}
    environment |= {"HOME": str(tmp_path)}
    if has_xdg:
        environment |= {"XDG_CACHE_HOME": str(cache.parent), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", AUDIT_PROGRAM, module],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]
