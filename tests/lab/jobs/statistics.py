"""Runs inside a guest: statistics beside the lines of the same run.

    python -m tests.lab.jobs.statistics FOLDER

FOLDER gets result.json and the statistics; they are checked on the host (test_statistics.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.nft_filter import EACH, PORTS, RULES, send
from tests.lab.jobs.steps import run_steps
from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net import traffic
from tests.lab.net.topology import FAR, inside, run, wire
from tests.support.paths import TREE

RECOUNTED = ("--output-json", "--timestamp", "current", "--output-caller", "--buffer-size", "64M")
# One by one, an old kernel takes minutes for all functions.
FUNCTIONS = (
    "__ip_local_out|ip_(output|forward|rcv|local_deliver)|(udp|icmp|tcp_v4)_rcv|ip_finish_output2?"
    "|dev_hard_start_xmit|(sk_skb|kfree_skb)(_reason.*)?|consume_skb|skb_release_data|kfree_skbmem"
)
FILTER = "icmp or udp or tcp"
RUNS: Mapping[str, Sequence[str]] = {
    "all": ("--output-nft=text",),
    "sampled": ("--sample-rate", "3"),
    "drops": ("--drops",),
    "by verdict": ("--filter-nft-verdict", "drop"),
}


def words(file: str, more: Sequence[str]) -> list[str]:
    flags = ["--stats-file", file, "--filter-func", FUNCTIONS, *more]
    return [*RECOUNTED, *flags, FILTER]


def commands() -> list[list[str]]:
    """Return the command lines of this job, for the cache that the host fills."""
    return [words("stats.json", more) for more in RUNS.values()]


def send_all() -> None:
    """Send packets that are answered, dropped by rules, and without a socket; TCP is cloned on its
    way.
    """
    traffic.ping(FAR, "-c", "10", "-i", "0.05")
    send(FAR, list(PORTS) * EACH)
    for kind in ("forward4", "tcp4", "fragments4"):
        traffic.KINDS[kind].send()


def recounted(folder: Path, name: str) -> StepResult:
    file = folder / f"{name}.stats"
    with tracer(folder, name, "pypwru", *words(str(file), RUNS[name]), start=Forked) as own:
        own.wait_ready()
        send_all()
        traffic.flush()
        done = own.stop()
    return {**done, "statistics": json.loads(file.read_text())}


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    os.environ["PYTHONPATH"] = str(TREE)  # another checkout's environment has another's pypwru
    wire()
    with inside("far"):
        run("nft", "-f", "-", words=RULES)
    share()
    steps = [(name, partial(recounted, folder, name)) for name in RUNS]
    run_steps(steps, {}, folder / "result.json")


if __name__ == "__main__":
    main()
