"""The file that is rotated: before it would grow too large it is renamed, and a new one begun.

An event is never split over two files, and a file is larger than asked for only if one event is.
What becomes of rotated files (``output/backups.py``) is done by a thread, which a trace never waits
for; the end of the run does.
"""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.config import Config
from pypwru.errors import OutputError
from pypwru.output.backups import (
    PACKED,
    Rotation,
    backup_name,
    backups,
    create_like,
    pack,
    rotation_of,
    superfluous,
)
from pypwru.output.sink import (
    FLAG,
    Sink,
    failure,
    opened_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.log import Log

_NOTICE_SECONDS = 0.2


def milliseconds() -> int:
    """The wall clock's, since the epoch."""
    return time.time_ns() // 1_000_000


class Tidier:
    """Removes and packs rotated files, in a thread.

    Args:
        path: the file that is rotated.
        rotation: what is asked for.
        log: told what can't be done, which ends no trace: the rotated file is there, whole.
    """

    def __init__(self, path: Path, rotation: Rotation, log: Log) -> None:
        self._path = path
        self._rotation = rotation
        self._log = log
        self._abandoned = False
        self._pool = ThreadPoolExecutor(1, "tidier")
        self._last: Future[None] | None = None

    def start(self, now: int) -> None:
        """Have it tidied as of ``now``; at once, or when what is under way is done."""
        if self._rotation.tidies:
            if self._last:
                self._last.cancel()  # if it waits still: this one does its work
            self._last = self._pool.submit(self._tidy, now)

    def finish(self) -> None:
        """Wait until all is done; a second signal leaves the rest unpacked."""
        if self._last is None:
            return
        try:
            if self._rotation.compress and not self._last.done():
                self._log.info("Compressing rotated files..")
            # Not for the thread: an interrupted join takes it for ended. And not for ever: a signal
            # that comes just before a wait is noticed only after it.
            while wait([self._last], _NOTICE_SECONDS).not_done:
                pass
        except KeyboardInterrupt:
            self.abandon()
            wait([self._last])
            raise
        finally:
            self._pool.shutdown()

    def abandon(self) -> None:
        """Leave unpacked what is not packed yet."""
        self._abandoned = True

    def _tidy(self, now: int) -> None:
        folder = self._path.parent
        try:
            there = backups(self._path.name, os.listdir(folder))
        except OSError as error:
            self._warn("Failed to list rotated files", folder, error)
            return
        going = set(superfluous(there, self._rotation, now))
        for backup in going:
            self._try("Failed to remove a rotated file", Path.unlink, folder / backup.name)
        if self._rotation.compress:
            for backup in there:
                if backup not in going and not backup.packed:
                    self._try("Failed to compress a rotated file", self._pack, folder / backup.name)

    def _pack(self, path: Path) -> None:
        if not self._abandoned:
            pack(path, lambda: self._abandoned)

    def _try(self, message: str, act: Callable[[Path], None], path: Path) -> None:
        try:
            act(path)
        except FileNotFoundError:
            pass  # somebody else tidies here too
        except OSError as error:
            self._warn(message, path, error)

    def _warn(self, message: str, path: Path, error: OSError) -> None:
        self._log.warn(message, file=path, error=error.strerror)


class RotatingSink(Sink):
    """A regular file that is rotated.

    Args:
        descriptor: open for writing at its end.
        path: of the file itself, no link to it.
        rotation: when.
        log: told what can't be done to rotated files.
        now: milliseconds.
        flag: that named the file.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path,
        rotation: Rotation,
        log: Log,
        now: Callable[[], int] = milliseconds,
        flag: str = FLAG,
    ) -> None:
        super().__init__(descriptor, str(path), owned=True, flag=flag)
        self._path = path
        self._max_size = rotation.max_size
        self._now = now
        self._size = os.fstat(descriptor).st_size
        self._tidier = Tidier(path, rotation, log)
        self._untouched = True
        self._named = -1  # the millisecond in the last backup's name

    def write_events(self, events: Sequence[bytes]) -> None:
        """Write all of ``events``, and rotate between two of them.

        Raises:
            OutputError: a full disk, a folder that takes no new file.
        """
        if events and self._untouched:  # not at the open: a run that never begins removes nothing
            self._untouched = False
            self._tidier.start(self._now())
        written = 0
        try:
            while rest := events[written:]:
                fitting = self._fitting(rest)
                if not fitting and self._size:
                    self.rotate()
                    continue
                # An event larger than a file has one for itself.
                part = rest[: fitting or 1]
                super().write_events(part)
                self._size += sum(map(len, part))
                written += len(part)
        except OutputError as error:
            error.events += written
            raise

    def close(self) -> None:
        """Close the file, and wait until rotated files are tidied.

        Raises:
            OutputError: as of Sink.
        """
        try:
            super().close()
        finally:
            self._tidier.finish()

    def __exit__(self, *raised: object) -> None:
        if any(isinstance(each, KeyboardInterrupt) for each in raised):  # he won't wait for us
            self._tidier.abandon()
        super().__exit__(*raised)

    def _fitting(self, events: Sequence[bytes]) -> int:
        """How many of the first ``events`` the file still takes."""
        room = self._max_size - self._size
        if sum(map(len, events)) <= room:
            return len(events)
        for number, event in enumerate(events):
            room -= len(event)
            if room < 0:
                return number
        return len(events)

    def rotate(self) -> None:
        """Begin a new file.

        Raises:
            OutputError: a folder that takes none.
        """
        now = self._now()
        try:
            # Whoever moved our file away before us has it rotated.
            with contextlib.suppress(FileNotFoundError):
                self._path.rename(self._free_name(now))
            fresh = create_like(self._path, os.fstat(self._descriptor))
        except OSError as error:
            raise failure("rotate", self._name, error, self._flag) from error
        full, self._descriptor, self._size = self._descriptor, fresh, 0
        try:
            os.close(full)
        except OSError as error:
            raise failure("close", self._name, error, self._flag) from error
        self._tidier.start(now)

    def _free_name(self, now: int) -> Path:
        """The name of a backup: later than the last one's, and nobody's, packed or not.

        The name of one that was removed may be free again, and stood for the oldest.
        """
        now = max(now, self._named + 1)
        while True:
            name = backup_name(self._path.name, now)
            both = (self._path.with_name(name), self._path.with_name(name + PACKED))
            if not any(map(os.path.lexists, both)):
                self._named = now
                return both[0]
            now += 1


def rotating(descriptor: int, config: Config, log: Log) -> RotatingSink:
    """The output file that is open for appending as ``descriptor``, rotated as the flags say."""
    # Behind a link it is the file that is rotated, and the link still leads to the newest.
    return RotatingSink(descriptor, opened_path(descriptor), rotation_of(config), log)
