"""A check that a capture, statistics and the ready file share no file with another output."""

from __future__ import annotations

import os
import stat
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.config import STDOUT
from pypwru.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.config import Config

_Identity = tuple[object, ...]


def require_distinct(config: Config, text: int | None, pcap: int | None) -> None:
    """Check the outputs of a run; to be called before anything is written.

    Lines may share a file with standard output or standard error.

    Args:
        config: of the run.
        text: descriptor of the output of lines; None if there is none.
        pcap: descriptor of the capture; None if there is none.

    Raises:
        UsageError: the capture, --stats-file or --ready-file is also the file of another output.
    """
    alone = list(_exclusive(config, pcap))
    lines = f"--output-file {config.output_file}" if config.output_file else "the lines"
    shared = [(lines, _of_descriptor(text))]
    if config.output_pcap != STDOUT:
        shared.append(("standard output", _of_descriptor(1)))
    shared.append(("standard error", _of_descriptor(2)))
    pairs = [*combinations(alone, 2), *((one, other) for one in alone for other in shared)]
    for (name, identity), (other_name, other) in pairs:
        if identity is not None and identity == other:
            raise UsageError(f"{name} and {other_name} are one file: give each its own")


def _exclusive(config: Config, pcap: int | None) -> Iterator[tuple[str, _Identity | None]]:
    yield f"--output-pcap {config.output_pcap}", _of_descriptor(pcap)
    for flag, path in (("stats-file", config.stats_file), ("ready-file", config.ready_file)):
        yield f"--{flag} {path}", _of_path(path) if path else None


def _of_descriptor(descriptor: int | None) -> _Identity | None:
    """Return None if it isn't open, and for devices: outputs may share /dev/null."""
    try:
        return None if descriptor is None else _of_status(os.fstat(descriptor))
    except OSError:
        return None


def _of_path(path: Path) -> _Identity | None:
    """Identify a file that doesn't exist yet by its folder and its name in it."""
    try:
        return _of_status(os.stat(path))
    except FileNotFoundError:
        folder = path.parent
        return (*(_of_path(folder) or (folder,)), path.name)
    except OSError:
        return None


def _of_status(found: os.stat_result) -> _Identity | None:
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return None
    return found.st_dev, found.st_ino
