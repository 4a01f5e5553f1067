"""Hostile names of a real program, interface and namespace, which need no rights outside a
container.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.native.tracing import Network, ip, network, tracing

pytestmark = pytest.mark.native

HOSTILE = "e\x1b[31m\u202e\x7f"
ESCAPED = r"e\u001b[31m\u202e\u007f"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    """The left namespace has a second name, and its device a hostile one."""
    with network() as made, ExitStack() as undo:
        ip("-n", made.left, "link", "set", made.left, "down")
        ip("-n", made.left, "link", "set", made.left, "name", HOSTILE)
        ip("-n", made.left, "link", "set", HOSTILE, "up")
        named = Path("/run/netns", f"z\n{HOSTILE}")  # of two names the last one is used
        named.touch()
        undo.callback(named.unlink)
        subprocess.run(["mount", "--bind", f"/run/netns/{made.left}", named], check=True)
        undo.callback(lambda: subprocess.run(["umount", named], check=True))
        yield made


@pytest.fixture
def ping(tmp_path: Path) -> str:
    """A program whose name has a line break."""
    program = tmp_path / f"p\n{HOSTILE}"
    source = shutil.which("ping")
    assert source, "network() needs it"
    shutil.copy(source, program)
    return str(program)


@pytest.mark.parametrize("flags", [(), ("--output-netns-names",), ("--output-journey",)])
def test_lines_escape_names(net: Network, ping: str, flags: tuple[str, ...]) -> None:
    with tracing(*flags, f"icmp and host {net.v4(2)}") as run:
        assert net.run(ping, "-c1", "-W5", net.v4(2)).returncode == 0
    assert run.status == 0 and run.done["events"] > 4
    assert run.stdout.replace("\n", "").isprintable()
    assert "\\u007f:" in run.stdout, "the last of 16 characters"
    lines = run.stdout.splitlines()
    if "--output-journey" not in flags:
        assert len(lines) == 1 + run.done["events"]
        assert all(line.startswith("0x") for line in lines[1:])
    if "--output-netns-names" in flags:
        assert f"z\\n{ESCAPED}"[:16] in run.stdout


def test_json_escapes_names(net: Network, ping: str) -> None:
    with tracing("--output-json", "--output-netns-names", f"icmp and host {net.v4(2)}") as run:
        assert net.run(ping, "-c1", "-W5", net.v4(2)).returncode == 0
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(events) == run.done["events"] > 4
    assert any(f"{HOSTILE[1:]}:" in event["process"] for event in events)
    assert {event.get("netns_name") for event in events} >= {f"z\n{HOSTILE}"}
    assert any(event["iface"].startswith(f"{HOSTILE}:") for event in events)
