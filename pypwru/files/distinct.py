"""A check that a capture, statistics and the ready file share no file with another output."""

from __future__ import annotations

import os
import stat
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import STDOUT
from pypwru.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FileId = tuple[object, ...]


class OutputPaths(NamedTuple):
    """The files of a run's outputs; None for an output that has no file.

    Args:
        lines: of --output-file.
        pcap: of --output-pcap; ``-`` is standard output.
        stats: of --stats-file.
        ready: of --ready-file.
    """

    lines: Path | None
    pcap: Path | None
    stats: Path | None
    ready: Path | None


def require_distinct(paths: OutputPaths, text_fd: int | None, pcap_fd: int | None) -> None:
    """Check the outputs of a run; to be called before anything is written.

    Lines may share a file with standard output or standard error.

    Args:
        paths: of the outputs.
        text_fd: descriptor of the output of lines; None if there is none.
        pcap_fd: descriptor of the capture; None if there is none.

    Raises:
        UsageError: the capture, --stats-file or --ready-file is also the file of another output.
    """
    exclusive = list(_exclusive_outputs(paths, pcap_fd))
    lines = f"--output-file {paths.lines}" if paths.lines else "the lines"
    shared = [(lines, _identify_descriptor(text_fd))]
    if paths.pcap != STDOUT:
        shared.append(("standard output", _identify_descriptor(1)))
    shared.append(("standard error", _identify_descriptor(2)))
    pairs = [*combinations(exclusive, 2), *((one, other) for one in exclusive for other in shared)]
    for (name, identity), (other_name, other) in pairs:
        if identity is not None and identity == other:
            raise UsageError(f"{name} and {other_name} are one file: give each its own")


def _exclusive_outputs(
    paths: OutputPaths, pcap_fd: int | None
) -> Iterator[tuple[str, _FileId | None]]:
    yield f"--output-pcap {paths.pcap}", _identify_descriptor(pcap_fd)
    for flag, path in (("stats-file", paths.stats), ("ready-file", paths.ready)):
        yield f"--{flag} {path}", _identify_path(path) if path else None


def _identify_descriptor(descriptor: int | None) -> _FileId | None:
    """Return None if it isn't open, and for devices: outputs may share /dev/null."""
    try:
        return None if descriptor is None else _identify_status(os.fstat(descriptor))
    except OSError:
        return None


def _identify_path(path: Path) -> _FileId | None:
    """Identify a file that doesn't exist yet by its folder and its name in it."""
    try:
        return _identify_status(os.stat(path))
    except FileNotFoundError:
        folder = path.parent
        return (*(_identify_path(folder) or (folder,)), path.name)
    except OSError:
        return None


def _identify_status(status: os.stat_result) -> _FileId | None:
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return None
    return status.st_dev, status.st_ino
