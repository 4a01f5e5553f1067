"""The job that each suite of the lab runs in a guest: one row each, for any kernel (kernels.py).

A suite's job is a module of jobs/, parity/ or truth/; its tests, on the host, read its results. The
jobs of a kernel share a guest, one after the other, unless a row has a reason against it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.jobs import (
    capture,
    corpus,
    drops,
    fentry,
    lists,
    main_job,
    pcap,
    programs,
    rule_texts,
    sampling,
    storm,
    switches,
)
from tests.lab.jobs import statistics as statistics_job
from tests.lab.kernels import Feature, Kernel, Tier
from tests.lab.net import topology
from tests.lab.parity import rows
from tests.lab.truth import rulefiles
from tests.lab.truth.grammar import derived
from tests.lab.truth.rulesets import WORDS
from tests.lab.vm import chroots
from tests.support.storm import build as build_storm

Words = Sequence[str]


def _nothing(row: Kernel, tier: Tier) -> list[str]:
    return []


def _no_commands(row: Kernel, tier: Tier) -> list[Words]:
    return []


def _no_files(folder: Path, row: Kernel, tier: Tier) -> None:
    pass


def _no_files_collected(folder: Path) -> dict[str, Any]:
    return {}


class Suite(NamedTuple):
    """A suite's job.

    Args:
        module: run in the guest as ``python -m MODULE FOLDER WORDS...``; leaves FOLDER/result.json.
        seconds: it takes about, on the kernel where it takes longest: (quick, full).
        words: its arguments after the folder.
        commands: pypwru's arguments in the guest, for which the host fills FOLDER/cache.
        prepare: writes into FOLDER, on the host, the files that the job reads.
        collect: returns more of the result, from the files that the job left in FOLDER.
        later: its steps that the quick tier leaves to the full one.
        timeout: seconds after which the job is killed.
        first: why no other job may run before it in its guest; empty if any may.
        alone: why no other job may run in its guest; empty if any may.
    """

    module: str
    seconds: tuple[int, int]
    words: Callable[[Kernel, Tier], list[str]] = _nothing
    commands: Callable[[Kernel, Tier], list[Words]] = _no_commands
    prepare: Callable[[Path, Kernel, Tier], None] = _no_files
    collect: Callable[[Path], dict[str, Any]] = _no_files_collected
    later: Sequence[str] = ()
    timeout: float = 1800.0
    first: str = ""
    alone: str = ""


def main_job_flags(row: Kernel, tier: Tier) -> list[str]:
    """Trace all functions where one link takes them; else a few hundred: pwru attaches 20 a
    second.
    """
    flags = ["--all-functions"] if row.has(Feature.KPROBE_MULTI) else []
    flags += ["--ebtables"] * row.has(Feature.EBTABLES)
    return flags + ["--deep"] * row.reference


def capture_backends(row: Kernel) -> list[str]:
    """Return the backends whose handlers copy packet data, each in its own way."""
    return [row.kprobes, *(["fentry-multi"] if row.has(Feature.FENTRY_MULTI) else [])]


def _capture_commands(row: Kernel, tier: Tier) -> list[Words]:
    common = ["--output-pcap=-", "--output-nft=false"]
    found = capture.commands(capture_backends(row), with_frames=row.reference)
    of_frames = found.pop("frames", None)
    last = [[*of_frames, "--pcap-when", one] for one in ("every", "first")] if of_frames else []
    return [[*common, *one] for one in (*found.values(), *last)]


def fentry_backends(row: Kernel) -> list[str]:
    """Return all that the kernel has; the last is the one that the others are compared with."""
    many = ["fentry-multi"] if row.has(Feature.FENTRY_MULTI) else []
    return [*many, "fentry", row.kprobes]


def truth_rulesets(tier: Tier) -> int:
    """Return how many random rulesets there are beside the fixed one."""
    return int(os.environ.get("PYPWRU_TRUTH_RULESETS") or (0 if tier is Tier.QUICK else 3))


def releases(tier: Tier) -> list[str]:
    """Return other Debian releases in whose user space pypwru runs; the older has no Python
    3.10.
    """
    return ["trixie"] if tier is Tier.QUICK else ["trixie", "sid"]


def _truth_files(folder: Path, row: Kernel, tier: Tier) -> None:
    start = int(os.environ.get("PYPWRU_TRUTH_SEED", "1"))
    (folder / "rulesets.json").write_text(json.dumps(derived(truth_rulesets(tier), start)))


def _storm_programs(folder: Path, row: Kernel, tier: Tier) -> None:
    programs = folder / "programs"
    programs.mkdir()
    build_storm(programs)


def corpus_names(tier: Tier) -> list[str]:
    """Return rulesets of the folder truth/corpus, and the one of many rules."""
    whole = [file.name for file in rulefiles.files()]
    return [*corpus.QUICK] if tier is Tier.QUICK else ["large", *whole]


def _frames(row: Kernel) -> list[str]:
    return ["frames"] if row.reference else []


def _captures(folder: Path) -> dict[str, Any]:
    return {"files": {file.name: file.read_bytes() for file in folder.glob("*.pcap*")}}


SUITES: Mapping[str, Suite] = {
    "main_job": Suite(
        "tests.lab.jobs.main_job",
        (150, 300),
        main_job_flags,
        lambda row, tier: [*main_job.commands(main_job_flags(row, tier))],
        later=("late",),
        first="it sees nf_tables and iptables-legacy's modules come while it traces",
    ),
    "capture": Suite(
        "tests.lab.jobs.capture",
        (120, 120),
        lambda row, tier: [*capture_backends(row), *_frames(row)],
        _capture_commands,
    ),
    "corpus": Suite(
        "tests.lab.jobs.corpus",
        (60, 500),
        lambda row, tier: [",".join(one.name for one in row.features) or "-", *corpus_names(tier)],
        lambda row, tier: [corpus.WORDS],
    ),
    "drops": Suite("tests.lab.jobs.drops", (80, 110), commands=lambda *_: [*drops.commands()]),
    "expression": Suite("tests.lab.jobs.expression", (60, 60)),
    "fentry": Suite(
        "tests.lab.jobs.fentry",
        (120, 80),
        lambda row, tier: fentry_backends(row),
        lambda row, tier: [*fentry.commands(fentry_backends(row), []).values()],
    ),
    "lists": Suite(
        "tests.lab.jobs.lists",
        (120, 120),
        commands=lambda *_: [*lists.COMMANDS],
        alone="it lists the functions of all modules, which are to be those that it loads itself",
    ),
    "parity": Suite(
        "tests.lab.parity.guest",
        (170, 450),
        lambda row, tier: ["--whole"] * row.reference + rows.names(row.name, tier),
        lambda row, tier: rows.commands(row.name, tier),
        lambda folder, row, tier: void(topology.build_programs(folder)),
        timeout=3600,
    ),
    "pcap": Suite(
        "tests.lab.jobs.pcap",
        (120, 130),
        commands=lambda *_: [*pcap.commands(pcap.CAPTURE_FUNCTIONS)],
        collect=_captures,
        later=("truth", "killed"),
    ),
    "programs": Suite(
        "tests.lab.jobs.programs",
        (120, 90),
        commands=lambda *_: [*programs.COMMANDS.values()],
    ),
    "rule_texts": Suite(
        "tests.lab.jobs.rule_texts",
        (150, 300),
        lambda row, tier: ["100" if tier is Tier.QUICK else "500"],  # replacements
        lambda row, tier: [rule_texts.WORDS],
    ),
    "sampling": Suite(
        "tests.lab.jobs.sampling",
        (180, 500),
        lambda row, tier: [row.kprobes, *_frames(row)],
        lambda row, tier: [
            *sampling.commands([row.kprobes], with_frames=row.reference).values(),
        ],
        later=("every", "sampled", "plain", "stacks", "frames"),
    ),
    "statistics": Suite(
        "tests.lab.jobs.statistics",
        (70, 80),
        commands=lambda *_: [*statistics_job.commands()],
        later=("sampled", "by verdict"),
    ),
    "storm": Suite(
        "tests.lab.jobs.storm",
        (400, 400),
        commands=lambda *_: [*storm.commands()],
        prepare=_storm_programs,
    ),
    "switches": Suite(
        "tests.lab.jobs.switches",
        (60, 60),
        lambda row, tier: fentry_backends(row),
        lambda row, tier: [*switches.commands(fentry_backends(row)).values()],
        alone="it switches off what the probes of other jobs hang on",
    ),
    "truth": Suite(
        "tests.lab.truth.guest",
        (190, 400),
        commands=lambda *_: [WORDS],
        prepare=_truth_files,
    ),
    "user_spaces": Suite(
        "tests.lab.jobs.user_spaces",
        (70, 120),
        lambda row, tier: releases(tier),
        prepare=lambda folder, row, tier: void([*map(chroots.root, releases(tier))]),
    ),
}


def void(value: object) -> None:
    """Discard a value."""
