"""Bench programs that measure on this machine's kernel, each at its smallest size.

Those that need no kernel are run by tests/unit/test_bench.py. Those that boot a guest (attach, cost
and hits) are run by ``make bench`` alone, as are the guests' parts of these.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.native.tracing import need_tracing
from tests.support.bench_programs import FOLDER, NATIVE, run
from tests.support.need import need
from tests.support.paths import TREE

pytestmark = pytest.mark.native

FIGURES = {
    "backends": r"\| tracepoint \| \d+ \| \d+ \|$",
    "levels": r"\| no \| (\d+ \| ){4}\d+ \|$",
    "pcap": r"\| pypwru every \| 65535 \| 2000 \| \d+ \| \d+ \| \d+ \|",
    "start": r"\| start \| pypwru( \| \d+\.\d{3}){6} \|$",
}


@pytest.mark.parametrize("program", NATIVE)
def test_smallest_size_prints_figures(program: str) -> None:
    need_tracing()
    if program == "pcap":
        need(shutil.which("tcpdump") and shutil.which("capinfos"), "tcpdump and capinfos")
    measured = run(program, ["--smallest"])
    assert measured.returncode == 0, measured.stderr
    assert "Traceback" not in measured.stderr
    assert re.search(FIGURES[program], measured.stdout, re.MULTILINE), measured.stdout


def test_demo_prints_lines_of_pings() -> None:
    need_tracing()
    command = [str(FOLDER / "demo"), sys.executable, "-m", "pypwru"]
    shown = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^0x.* 192\.0\.2\.1:0->192\.0\.2\.2:0\(icmp\) ", shown.stdout, re.MULTILINE)
    drops = re.findall(r"\((SKB_DROP_REASON_\w+)\)", shown.stdout)
    assert set(drops) == {"SKB_DROP_REASON_NETFILTER_DROP"}, "the rule's, and no other"
