"""Outputs that are one file under several names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypwru.config import Config
from pypwru.errors import UsageError
from pypwru.files.distinct import require_distinct
from tests.support.records import configured


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Path]:
    """Of one file, and of what is not there yet."""
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


SAME = ["dots", "soft", "hard", "through"]


def checked(config: Config, text: Path | None = None, pcap: Path | None = None) -> None:
    descriptors = [os.open(path, os.O_WRONLY) if path else None for path in (text, pcap)]
    try:
        require_distinct(config, *descriptors)
    finally:
        for descriptor in filter(None, descriptors):
            os.close(descriptor)


@pytest.mark.parametrize("other", SAME)
def test_a_capture_is_alone(names: dict[str, Path], other: str) -> None:
    pcap, same = names["plain"], names[other]
    flags = f"--output-pcap {pcap}"
    with pytest.raises(UsageError, match=f"{flags} and --output-file {same} are one file"):
        checked(configured(f"{flags} --output-file {same}"), same, pcap)
    for flag in ("stats-file", "ready-file"):
        with pytest.raises(UsageError, match=f"{flags} and --{flag} {same} are one file"):
            checked(configured(f"{flags} --stats --{flag} {same}"), pcap=pcap)


@pytest.mark.parametrize(("one", "other"), [("soft", "hard"), ("new", "new through")])
def test_statistics_and_the_ready_file(names: dict[str, Path], one: str, other: str) -> None:
    with pytest.raises(UsageError, match=r"--stats-file .* and --ready-file .* are one file"):
        checked(configured(f"--stats --stats-file {names[one]} --ready-file {names[other]}"))


@contextmanager
def redirected(names: dict[str, Path]) -> Iterator[None]:
    """Standard output goes to the file, and standard error to the other."""
    kept = os.dup(1), os.dup(2)
    try:
        for number, name in ((1, "plain"), (2, "other")):
            descriptor = os.open(names[name], os.O_WRONLY)
            os.dup2(descriptor, number)
            os.close(descriptor)
        yield
    finally:
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def test_redirections(names: dict[str, Path]) -> None:
    out, err = Path("/dev/stdout"), Path("/dev/stderr")
    with redirected(names):
        for flags, pcap, text, words in (
            (
                f"--output-pcap {names['soft']}",
                names["soft"],
                None,
                "--output-pcap .* standard out",
            ),
            (f"--stats --stats-file {names['hard']}", None, None, "--stats-file .* standard out"),
            ("--stats --stats-file /dev/stdout", None, None, "--stats-file .* standard output"),
            (f"--ready-file {names['other']}", None, None, "--ready-file .* standard error"),
            ("--output-pcap - --output-file /dev/stdout", out, out, "- and --output-file /dev"),
            ("--output-pcap -", err, None, "--output-pcap - and standard error"),
        ):
            with pytest.raises(UsageError, match=words):
                checked(configured(flags), text, pcap)
        checked(configured("--output-pcap -"), pcap=out)
        checked(configured("--output-file /dev/stdout"), out)


def test_what_is_not_the_same(names: dict[str, Path]) -> None:
    flags = f"--output-pcap {names['plain']} --stats --stats-file {names['new']}"
    checked(
        configured(f"{flags} --ready-file {names['newer']} --output-file {names['other']}"),
        names["other"], names["plain"],
    )  # fmt: skip
    null = Path(os.devnull)
    checked(configured(f"--output-pcap {names['plain']}"), null, null)
    checked(configured(f"--stats --stats-file {names['new']} --ready-file {null}"), null)
