"""Outputs that are one file under several names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypwru.config import Config
from pypwru.errors import UsageError
from pypwru.files.distinct import OutputPaths, require_distinct
from tests.support.records import configured


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Several paths of one file, and of files that don't exist yet."""
    file = tmp_path / "file.pcapng"
    file.touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "soft.pcapng").symlink_to(file)
    (tmp_path / "hard.pcapng").hardlink_to(file)
    other = tmp_path / "other"
    other.touch()
    return {
        "plain": file,
        "dots": tmp_path / "sub" / ".." / "file.pcapng",
        "soft": tmp_path / "soft.pcapng",
        "hard": tmp_path / "hard.pcapng",
        "through": tmp_path / "folder" / "file.pcapng",
        "other": other,
        "new": tmp_path / "new",
        "new through": tmp_path / "folder" / "sub" / ".." / "new",
        "newer": tmp_path / "newer",
    }


ALIASES = ["dots", "soft", "hard", "through"]


def check_distinct(config: Config, text: Path | None = None, pcap: Path | None = None) -> None:
    descriptors = [os.open(path, os.O_WRONLY) if path else None for path in (text, pcap)]
    try:
        paths = OutputPaths(
            config.output_file, config.output_pcap, config.stats_file, config.ready_file
        )
        require_distinct(paths, *descriptors)
    finally:
        for descriptor in filter(None, descriptors):
            os.close(descriptor)


@pytest.mark.parametrize("other", ALIASES)
def test_capture_shares_no_file(paths: dict[str, Path], other: str) -> None:
    pcap, same = paths["plain"], paths[other]
    flags = f"--output-pcap {pcap}"
    with pytest.raises(UsageError, match=f"{flags} and --output-file {same} are one file"):
        check_distinct(configured(f"{flags} --output-file {same}"), same, pcap)
    for flag in ("stats-file", "ready-file"):
        with pytest.raises(UsageError, match=f"{flags} and --{flag} {same} are one file"):
            check_distinct(configured(f"{flags} --stats --{flag} {same}"), pcap=pcap)


@pytest.mark.parametrize(("one", "other"), [("soft", "hard"), ("new", "new through")])
def test_stats_and_ready_file_differ(paths: dict[str, Path], one: str, other: str) -> None:
    with pytest.raises(UsageError, match=r"--stats-file .* and --ready-file .* are one file"):
        check_distinct(configured(f"--stats --stats-file {paths[one]} --ready-file {paths[other]}"))


@contextmanager
def redirect_streams(paths: dict[str, Path]) -> Iterator[None]:
    """Redirect standard output to ``plain``, and standard error to ``other``."""
    saved = os.dup(1), os.dup(2)
    try:
        for number, name in ((1, "plain"), (2, "other")):
            descriptor = os.open(paths[name], os.O_WRONLY)
            os.dup2(descriptor, number)
            os.close(descriptor)
        yield
    finally:
        for number, descriptor in enumerate(saved, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def test_redirected_streams(paths: dict[str, Path]) -> None:
    out, err = Path("/dev/stdout"), Path("/dev/stderr")
    with redirect_streams(paths):
        for flags, pcap, text, words in (
            (
                f"--output-pcap {paths['soft']}",
                paths["soft"],
                None,
                "--output-pcap .* standard out",
            ),
            (f"--stats --stats-file {paths['hard']}", None, None, "--stats-file .* standard out"),
            ("--stats --stats-file /dev/stdout", None, None, "--stats-file .* standard output"),
            (f"--ready-file {paths['other']}", None, None, "--ready-file .* standard error"),
            ("--output-pcap - --output-file /dev/stdout", out, out, "- and --output-file /dev"),
            ("--output-pcap -", err, None, "--output-pcap - and standard error"),
        ):
            with pytest.raises(UsageError, match=words):
                check_distinct(configured(flags), text, pcap)
        check_distinct(configured("--output-pcap -"), pcap=out)
        check_distinct(configured("--output-file /dev/stdout"), out)


def test_distinct_outputs(paths: dict[str, Path]) -> None:
    flags = f"--output-pcap {paths['plain']} --stats --stats-file {paths['new']}"
    check_distinct(
        configured(f"{flags} --ready-file {paths['newer']} --output-file {paths['other']}"),
        paths["other"], paths["plain"],
    )  # fmt: skip
    null = Path(os.devnull)
    check_distinct(configured(f"--output-pcap {paths['plain']}"), null, null)
    check_distinct(configured(f"--stats --stats-file {paths['new']} --ready-file {null}"), null)
