"""The rotated output file: before it exceeds its maximum size it is renamed, and a new one opened.

An event is never split across two files; a file exceeds the maximum only if a single event does.
Backups (``files/backups.py``) are removed and compressed in a thread. The trace never waits for
it; the end of the run does.
"""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.errors import OutputError
from pypwru.files.backups import (
    GZIP_SUFFIX,
    Rotation,
    backup_name,
    compress,
    create_with_mode_of,
    expired_backups,
    find_backups,
    rotation_of,
)
from pypwru.files.sink import (
    OPTION_NAME,
    RotationLimits,
    Sink,
    output_error,
    path_of_descriptor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.log import Log

_WAIT_INTERVAL = 0.2


def now_ms() -> int:
    """Return the ms since the epoch, by the wall clock."""
    return time.time_ns() // 1_000_000


class BackupCleaner:
    """The thread that removes and compresses backups.

    Its failures don't end the trace: the backup still exists, complete.

    Args:
        path: of the rotated file.
        rotation: the retention.
        log: receives a warning for each file that can't be removed or compressed.
    """

    def __init__(self, path: Path, rotation: Rotation, log: Log) -> None:
        self._path = path
        self._rotation = rotation
        self._log = log
        self._is_cancelled = False
        self._pool = ThreadPoolExecutor(1, "tidier")
        self._last: Future[None] | None = None

    def start(self, now: int) -> None:
        """Queue a clean-up; it starts at once, or after the one that is running.

        Args:
            now: ms since the epoch, to which the age of backups is compared.
        """
        if self._rotation.needs_cleanup:
            if self._last:
                self._last.cancel()  # if it is still queued: the new one does its work too
            self._last = self._pool.submit(self._clean, now)

    def finish(self) -> None:
        """Wait until all clean-ups are done.

        Raises:
            KeyboardInterrupt: a second signal came; backups that weren't compressed yet stay so.
        """
        if self._last is None:
            return
        try:
            if self._rotation.compress and not self._last.done():
                self._log.info("Compressing rotated files..")
            # Wait for the future, not the thread: after an interrupted join() Python takes a thread
            # for ended. Wait with a time-out: a signal that arrives just before the wait is handled
            # only after it.
            while wait([self._last], _WAIT_INTERVAL).not_done:
                pass
        except KeyboardInterrupt:
            self.cancel()
            wait([self._last])
            raise
        finally:
            self._pool.shutdown()

    def cancel(self) -> None:
        """Leave backups as they are that aren't compressed yet."""
        self._is_cancelled = True

    def _clean(self, now: int) -> None:
        folder = self._path.parent
        try:
            existing = find_backups(self._path.name, os.listdir(folder))
        except OSError as error:
            self._warn("Failed to list rotated files", folder, error)
            return
        expired = set(expired_backups(existing, self._rotation, now))
        for backup in expired:
            self._try("Failed to remove a rotated file", Path.unlink, folder / backup.name)
        if self._rotation.compress:
            for backup in existing:
                if backup not in expired and not backup.is_compressed:
                    self._try(
                        "Failed to compress a rotated file", self._compress, folder / backup.name
                    )

    def _compress(self, path: Path) -> None:
        if not self._is_cancelled:
            compress(path, lambda: self._is_cancelled)

    def _try(self, message: str, act: Callable[[Path], None], path: Path) -> None:
        try:
            act(path)
        except FileNotFoundError:
            pass  # another process removed it
        except OSError as error:
            self._warn(message, path, error)

    def _warn(self, message: str, path: Path, error: OSError) -> None:
        self._log.warn(message, file=path, error=error.strerror)


class RotatingSink(Sink):
    """A regular file with rotation.

    Args:
        descriptor: open for appending; owned by the sink, replaced at each rotation.
        path: of the file itself, not of a link to it.
        rotation: maximum size, and retention of backups.
        log: receives warnings about backups.
        now: returns the ms since the epoch.
        flag: the option that names the file, used in error messages.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path,
        rotation: Rotation,
        log: Log,
        now: Callable[[], int] = now_ms,
        flag: str = OPTION_NAME,
    ) -> None:
        super().__init__(descriptor, str(path), owned=True, flag=flag)
        self._path = path
        self._max_size = rotation.max_size
        self._now = now
        self._size = os.fstat(descriptor).st_size
        self._cleaner = BackupCleaner(path, rotation, log)
        self._is_untouched = True
        self._last_stamp = -1  # the millisecond in the last backup's name

    def write_events(self, events: Sequence[bytes]) -> None:
        """Write all of ``events``, rotating between two of them where needed.

        Raises:
            OutputError: the disk is full, or the folder takes no new file.
        """
        if (
            events and self._is_untouched
        ):  # not in __init__: a run that fails to start removes nothing
            self._is_untouched = False
            self._cleaner.start(self._now())
        written = 0
        try:
            while rest := events[written:]:
                count = self._count_fitting(rest)
                if not count and self._size:
                    self.rotate()
                    continue
                # An event larger than the maximum size gets a file of its own.
                part = rest[: count or 1]
                super().write_events(part)
                self._size += sum(map(len, part))
                written += len(part)
        except OutputError as error:
            error.events_written += written
            raise

    def close(self) -> None:
        """Close the file, and wait for the clean-up of backups.

        Raises:
            OutputError: as ``Sink.close``.
            KeyboardInterrupt: a second signal came during the wait.
        """
        try:
            super().close()
        finally:
            self._cleaner.finish()

    def __exit__(self, *raised: object) -> None:
        # After a second signal, exit without waiting for compression.
        if any(isinstance(each, KeyboardInterrupt) for each in raised):
            self._cleaner.cancel()
        super().__exit__(*raised)

    def _count_fitting(self, events: Sequence[bytes]) -> int:
        """Return how many of ``events`` fit into the file, counted from the first."""
        room = self._max_size - self._size
        if sum(map(len, events)) <= room:
            return len(events)
        for number, event in enumerate(events):
            room -= len(event)
            if room < 0:
                return number
        return len(events)

    def rotate(self) -> None:
        """Rename the file to a backup, and continue in a new one.

        Raises:
            OutputError: the folder takes no new file, or the old one can't be closed.
        """
        now = self._now()
        try:
            # If another process has moved our file away, there is nothing to rename.
            with contextlib.suppress(FileNotFoundError):
                self._path.rename(self._free_name(now))
            new_descriptor = create_with_mode_of(self._path, os.fstat(self._descriptor))
        except OSError as error:
            raise output_error("rotate", self._name, error, self._flag) from error
        old_descriptor, self._descriptor, self._size = self._descriptor, new_descriptor, 0
        try:
            os.close(old_descriptor)
        except OSError as error:
            raise output_error("close", self._name, error, self._flag) from error
        self._cleaner.start(now)

    def _free_name(self, now: int) -> Path:
        """Return a name for the next backup: unused (also with ``.gz``), and later than the last.

        A name that was freed by a removal isn't reused: it would sort as one of the oldest.
        """
        now = max(now, self._last_stamp + 1)
        while True:
            name = backup_name(self._path.name, now)
            paths = (self._path.with_name(name), self._path.with_name(name + GZIP_SUFFIX))
            if not any(map(os.path.lexists, paths)):
                self._last_stamp = now
                return paths[0]
            now += 1


def make_rotating_sink(descriptor: int, limits: RotationLimits, log: Log) -> RotatingSink:
    """Return the rotating sink of --output-file.

    Args:
        descriptor: of the file, open for appending; the sink takes ownership.
        limits: of the file.
        log: receives warnings about backups.
    """
    # Of a symbolic link the target is rotated, so that the link still leads to the newest file.
    return RotatingSink(descriptor, path_of_descriptor(descriptor), rotation_of(limits), log)
