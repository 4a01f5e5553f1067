"""The documented capabilities, and no others, suffice for a trace."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.kernel.capabilities import CAPABILITY_NEEDS
from tests.native.tracing import COMMAND, Network, environment, network, tracing
from tests.support.need import need
from tests.support.paths import TREE

pytestmark = pytest.mark.native

DOCUMENTS = {
    "README.md": r"It runs as root \((.*), and root's access to tracefs\)",
    "man/pypwru.1": r"Needs root, or (CAP_BPF.*?) with access to",
}
NAMES = [one.name.removeprefix("CAP_").lower() for one in CAPABILITY_NEEDS]
ONLY = ",".join(["-all", *(f"+{right}" for right in NAMES)])
AS_ROOT = ("setpriv", f"--bounding-set={ONLY}")
UNPRIVILEGED = (
    *AS_ROOT, "--reuid=nobody", "--regid=nogroup", "--clear-groups", f"--inh-caps={ONLY}",
    f"--ambient-caps={ONLY}",
)  # fmt: skip


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    need(shutil.which("setpriv"), "setpriv, of util-linux")
    with network() as made:
        yield made


@pytest.mark.parametrize(("file", "words"), DOCUMENTS.items())
def test_documented_capabilities_are_those_needed(file: str, words: str) -> None:
    text = re.sub(r"\s+", " ", (TREE / file).read_text())
    found = re.search(words, text)
    assert found, file
    assert re.findall(r"CAP_\w+", found[1]) == [one.name for one in CAPABILITY_NEEDS]


@pytest.mark.parametrize("before", [AS_ROOT, UNPRIVILEGED], ids=["root", "nobody"])
@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--output-json",),
        ("--output-stack", "--output-caller", "--output-ct", "--output-netns-names"),
        ("--output-journey",),
        ("--drops",),
        ("--stats", "--output-json"),
    ],
    ids=" ".join,
)
def test_trace_needs_no_other_capability(
    net: Network, tmp_path: Path, flags: tuple[str, ...], before: tuple[str, ...]
) -> None:
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"), HOME="/nonexistent")
    readable = subprocess.run(
        [*before, *COMMAND, "--version"], env=env, capture_output=True, check=False
    )
    need(readable.returncode == 0, "a checkout that nobody can read")
    with tracing(*flags, f"icmp and host {net.v4(2)}", env=env, before=before) as run:
        effective = re.search(
            r"CapEff:\t(\w+)", Path(f"/proc/{run.process.pid}/status").read_text()
        )
        assert effective and int(effective[1], 16) == sum(1 << one.bit for one in CAPABILITY_NEEDS)
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    assert run.done["attached"] > 10 and run.done["lost_ring_full"] == 0
    if flags != ("--drops",):
        assert run.done["events"] > 4 and run.stdout
