"""Other Debian releases' BCC, LLVM, Python and nft on real kernels: rules have the same texts."""

from __future__ import annotations

import json

import pytest

from tests.lab import kernels, results
from tests.lab.jobs.user_spaces import PORTS
from tests.lab.kernels import Tier
from tests.lab.suites import releases

pytestmark = pytest.mark.lab
SUITE = "user_spaces"
KERNELS = kernels.names(SUITE)
QUICK = releases(Tier.QUICK)
RELEASES = [
    pytest.param(release, marks=[] if release in QUICK else pytest.mark.full)
    for release in releases(Tier.FULL)
]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("release", RELEASES)
def test_first_start_names_rules(kernel: str, release: str) -> None:
    result = results.step(kernel, SUITE, release)

    assert result["status"] == 0, result["err"]
    assert " WARN " not in result["err"]
    events = [json.loads(line) for line in result["out"].splitlines()]
    rules = {
        (event["tuple"]["dport"], event["nft"]["verdict"], event["nft"]["text"])
        for event in events
        if event["type"] == "nft_rule"
        and event["nft"]["chain"] == "ports"
        and event["tuple"]["dport"] in PORTS
    }
    dropped, accepted = PORTS
    assert rules == {
        (dropped, "drop", f'udp dport {dropped} counter drop comment "no such port"'),
        (accepted, "accept", f"udp dport {accepted} accept"),
    }
