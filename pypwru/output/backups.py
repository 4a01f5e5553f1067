"""Rotated files: how they are called, which of them stay, how they are packed.

Names and rules are those of lumberjack, pwru's writer: beside ``trace.log`` there is
``trace-2026-11-23T04-18-33.584.log``, after the local time of its rotation, and ``.gz`` behind that
when it is compressed. Times are milliseconds since the epoch, as those names have them.
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

    from pypwru.config import Config

PACKED = ".gz"
_STAMP = "%Y-%m-%dT%H-%M-%S"
_STAMPED = r"-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.(\d{3})"
_DAY = 24 * 60 * 60 * 1000
_MB = 1 << 20
_DEFAULT_SIZE = 100 * _MB
_LEVEL = 6  # gzip(1)'s, and Go's
_CHUNK = 1 << 18  # zlib works on one without Python's lock: some milliseconds


class Rotation(NamedTuple):
    """When a file is rotated, and what becomes of rotated files.

    Args:
        max_size: bytes of a file.
        max_backups: rotated files that stay; None for all.
        max_age: days that they stay; 0 for ever.
        compress: whether they are packed.
    """

    max_size: int
    max_backups: int | None
    max_age: int
    compress: bool

    @property
    def tidies(self) -> bool:
        """Whether there is anything to do to rotated files."""
        return self.max_backups is not None or self.max_age > 0 or self.compress


def rotation_of(config: Config) -> Rotation:
    """What the flags ask for."""
    return Rotation(
        config.output_file_max_size * _MB or _DEFAULT_SIZE,
        config.output_file_max_backups or None,
        config.output_file_max_age,
        config.output_file_compress,
    )


class Backup(NamedTuple):
    """A rotated file.

    Args:
        rotated: when.
        name: in its folder.
        plain: its name before it was packed.
    """

    rotated: int
    name: str
    plain: str

    @property
    def packed(self) -> bool:
        """Whether it is compressed."""
        return self.name != self.plain


def backup_name(name: str, now: int) -> str:
    """What the file ``name`` is called once it is rotated."""
    stem, extension = _split(name)
    stamp = time.strftime(_STAMP, time.localtime(now // 1000))
    return f"{stem}-{stamp}.{now % 1000:03}{extension}"


def backups(name: str, others: Iterable[str]) -> list[Backup]:
    """Those of ``others`` that are rotated files of ``name``, the newest first."""
    stem, extension = _split(name)
    form = re.compile(f"({re.escape(stem)}{_STAMPED}{re.escape(extension)})({re.escape(PACKED)})?")
    found = []
    for match in filter(None, map(form.fullmatch, others)):
        with contextlib.suppress(ValueError, OverflowError):  # 99 o'clock: somebody else's file
            seconds = int(time.mktime(time.strptime(match[2], _STAMP)))
            found.append(Backup(seconds * 1000 + int(match[3]), match[0], match[1]))
    return sorted(found, reverse=True)


def superfluous(newest_first: Sequence[Backup], rotation: Rotation, now: int) -> list[Backup]:
    """Which of them go: those beyond the number, and those beyond the age."""
    going = []
    plain_names = (
        set()
    )  # a file that was killed while it was packed is there twice, and counts once
    for backup in newest_first:
        plain_names.add(backup.plain)
        too_many = rotation.max_backups is not None and rotation.max_backups < len(plain_names)
        too_old = rotation.max_age > 0 and backup.rotated < now - rotation.max_age * _DAY
        if too_many or too_old:
            going.append(backup)
    return going


def create_like(path: Path, model: os.stat_result) -> int:
    """A descriptor of a new file, for writing at its end, with ``model``'s owner and mode.

    Raises:
        OSError: it is there, or can't be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with contextlib.suppress(OSError):  # not root: the file is our own
        os.fchown(descriptor, model.st_uid, model.st_gid)
    os.fchmod(descriptor, model.st_mode & 0o7777)
    return descriptor


def pack(path: Path, abandoned: Callable[[], bool]) -> None:
    """Put ``path`` into ``path.gz``; ``path`` is there until all of that is on the disk.

    Args:
        abandoned: asked now and then; true leaves everything as it was.

    Raises:
        OSError: it is as it was.
    """
    packed = path.with_name(path.name + PACKED)
    draft = packed.with_name(packed.name + ".tmp")
    draft.unlink(missing_ok=True)  # of a pypwru that was killed
    try:
        with (
            path.open("rb") as source,
            os.fdopen(create_like(draft, os.fstat(source.fileno())), "wb") as target,
        ):
            with gzip.GzipFile(path.name, "wb", _LEVEL, target) as writer:
                while chunk := source.read(_CHUNK):
                    if abandoned():
                        return
                    writer.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        draft.rename(packed)
        path.unlink()
    finally:
        draft.unlink(missing_ok=True)


def _split(name: str) -> tuple[str, str]:
    """Stem and extension as Go's filepath.Ext has them: all of ``.trace`` is extension."""
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if dot else (name, "")
