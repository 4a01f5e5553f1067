"""Backups of a rotated file: their names, their retention, their compression.

Names and rules are those of lumberjack, the log writer of pwru: a backup of ``trace.log`` is
``trace-2026-11-23T04-18-33.584.log``, named after the local time of its rotation, with ``.gz``
appended when compressed. Times are milliseconds since the epoch, the resolution of these names.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pypwru.files.sink import RotationLimits

GZIP_SUFFIX = ".gz"
_STAMP_FORMAT = "%Y-%m-%dT%H-%M-%S"
_STAMP_PATTERN = r"-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.(\d{3})"
_DAY_MS = 24 * 60 * 60 * 1000
_MB = 1 << 20
_DEFAULT_SIZE = 100 * _MB
_GZIP_LEVEL = 6  # gzip(1)'s, and Go's
_CHUNK_SIZE = 1 << 18  # bytes; zlib compresses a chunk without the GIL, in some milliseconds


class Rotation(NamedTuple):
    """When a file is rotated, and the retention of its backups.

    Args:
        max_size: bytes of a file before it is rotated.
        max_backups: number of backups to keep; None: all.
        max_age: days to keep a backup; 0: for ever.
        compress: compress backups with gzip.
    """

    max_size: int
    max_backups: int | None
    max_age: int
    compress: bool

    @property
    def needs_cleanup(self) -> bool:
        """True if backups are ever removed or compressed."""
        return self.max_backups is not None or self.max_age > 0 or self.compress


def rotation_of(limits: RotationLimits) -> Rotation:
    """Return the rotation of --output-file, from the limits as typed."""
    return Rotation(
        limits.max_size * _MB or _DEFAULT_SIZE,
        limits.max_backups or None,
        limits.max_age,
        limits.compress,
    )


class Backup(NamedTuple):
    """A backup.

    Args:
        rotated: time of its rotation, ms since the epoch.
        name: of the file, without its folder.
        uncompressed_name: the same without ``.gz``.
    """

    rotated: int
    name: str
    uncompressed_name: str

    @property
    def is_compressed(self) -> bool:
        """True if it is compressed."""
        return self.name != self.uncompressed_name


def backup_name(name: str, now: int) -> str:
    """Return the name of a backup of the file ``name``.

    Args:
        name: of the file that is rotated, without its folder.
        now: time of the rotation, ms since the epoch.
    """
    stem, extension = _split(name)
    stamp = time.strftime(_STAMP_FORMAT, time.localtime(now // 1000))
    return f"{stem}-{stamp}.{now % 1000:03}{extension}"


def find_backups(name: str, candidates: Iterable[str]) -> list[Backup]:
    """Return those of ``candidates`` that are backups of ``name``, the newest first.

    Args:
        name: of the file that is rotated, without its folder.
        candidates: names of files in the same folder.
    """
    stem, extension = _split(name)
    pattern = re.compile(
        f"({re.escape(stem)}{_STAMP_PATTERN}{re.escape(extension)})({re.escape(GZIP_SUFFIX)})?"
    )
    found = []
    for match in filter(None, map(pattern.fullmatch, candidates)):
        with contextlib.suppress(ValueError, OverflowError):  # no valid time: not a backup
            seconds = int(time.mktime(time.strptime(match[2], _STAMP_FORMAT)))
            found.append(Backup(seconds * 1000 + int(match[3]), match[0], match[1]))
    return sorted(found, reverse=True)


def expired_backups(newest_first: Sequence[Backup], rotation: Rotation, now: int) -> list[Backup]:
    """Return the backups to remove: those beyond the number to keep, and those that are too old.

    Args:
        newest_first: all backups of a file.
        rotation: the retention.
        now: ms since the epoch.
    """
    expired = []
    # A set: if pypwru was killed while it compressed a backup, both files exist and count once.
    plain_names = set()
    for backup in newest_first:
        plain_names.add(backup.uncompressed_name)
        too_many = rotation.max_backups is not None and rotation.max_backups < len(plain_names)
        too_old = rotation.max_age > 0 and backup.rotated < now - rotation.max_age * _DAY_MS
        if too_many or too_old:
            expired.append(backup)
    return expired


def create_with_mode_of(path: Path, model: os.stat_result) -> int:
    """Create a file with the owner and mode of ``model``, and open it for appending.

    The caller owns the descriptor. Without the right to change the owner, it stays our own.

    Raises:
        OSError: it exists, or can't be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with contextlib.suppress(OSError):  # not root: the file is our own
        os.fchown(descriptor, model.st_uid, model.st_gid)
    os.fchmod(descriptor, model.st_mode & 0o7777)
    return descriptor


def compress(path: Path, is_cancelled: Callable[[], bool]) -> None:
    """Compress ``path`` to ``path.gz``, and remove it once the result is on disk (fsync).

    Args:
        path: of the backup.
        is_cancelled: called before each chunk; True cancels and leaves ``path`` as it was.

    Raises:
        OSError: the compression failed; ``path`` is as it was.
    """
    compressed = path.with_name(path.name + GZIP_SUFFIX)
    draft = compressed.with_name(compressed.name + ".tmp")
    draft.unlink(missing_ok=True)  # left by a pypwru that was killed
    try:
        with (
            path.open("rb") as source,
            os.fdopen(create_with_mode_of(draft, os.fstat(source.fileno())), "wb") as target,
        ):
            with gzip.GzipFile(path.name, "wb", _GZIP_LEVEL, target) as writer:
                while chunk := source.read(_CHUNK_SIZE):
                    if is_cancelled():
                        return
                    writer.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        draft.rename(compressed)
        path.unlink()
    finally:
        draft.unlink(missing_ok=True)


def _split(name: str) -> tuple[str, str]:
    """Return stem and extension by the rule of Go's filepath.Ext: ``.trace`` is all extension."""
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if dot else (name, "")
