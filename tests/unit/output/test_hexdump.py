"""Hex dumps; the oracle is hexdump(1), which has Go's format, and one more line."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pypwru.output.hexdump import dump
from tests.support.need import need


@pytest.mark.parametrize("length", [*range(34), 255, 256])
def test_dump_equals_hexdump(length: int) -> None:
    need(shutil.which("hexdump"), "hexdump, of bsdextrautils")
    octets = bytes(at * 37 % 256 for at in range(length))
    done = subprocess.run(["hexdump", "-vC"], input=octets, capture_output=True, check=True)
    assert dump(octets).splitlines() == done.stdout.decode().splitlines()[:-1]
