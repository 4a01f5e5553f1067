"""Where events go as text: standard output, or a file that is appended to.

Unbuffered: the printer hands over a batch of events, and a batch is one write.
``output/rotation.py`` has the file that is rotated.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.config import STDOUT
from pypwru.errors import OutputClosed, OutputError, cure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.signals import Interrupts

FLAG = "--output-file"
_AGAIN = 0.1  # s; nothing tells that a named pipe got its reader
_PATIENCE = 2.0  # s; for a slow reader, once the end was requested


class Sink:
    """An open output.

    Args:
        descriptor: open for writing.
        name: what an error calls it.
        owned: closed by ``close``.
        stop: the stop request; a reader that is slow (``| less``) delays the end by _PATIENCE.
        flag: that named it.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        owned: bool,
        stop: Interrupts | None = None,
        flag: str = FLAG,
    ) -> None:
        self._descriptor = descriptor
        self._name = name
        self._owned = owned
        self._stop = stop
        self._flag = flag
        # A write to a file waits for nobody; one of PIPE_BUF bytes doesn't when select(2) says so.
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._give_up: float | None = None  # when to, once the end was requested
        self._reader = select.poll()
        if not self._is_regular:
            self._reader.register(descriptor, 0)  # an error is always told

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, content: bytes) -> None:
        """Write what is no event: a header, a version.

        Raises:
            OutputClosed, OutputError: as ``write_events``.
        """
        self.write_events([content])

    def write_events(self, events: Sequence[bytes]) -> None:
        """Write all of ``events``, each the lines of one with their last line break.

        Raises:
            OutputClosed: nobody reads the pipe any more, or not fast enough once the end was
                requested; then no event is cut that fits into a pipe's buffer.
            OutputError: a full disk, a failing device.
        """
        content = memoryview(b"".join(events))
        ends = [] if self._is_regular else list(accumulate(map(len, events)))
        written = 0
        while written < len(content):
            try:
                if not self._is_regular and not self._has_room():
                    break
                piece = content[written : self._until(ends, written)]
                written += os.write(self._descriptor, piece)
            except BlockingIOError:
                continue  # whoever shares our terminal or pipe made it non-blocking
            except BrokenPipeError:
                break
            except OSError as error:
                if not self._is_regular and error.errno == errno.EIO:  # the terminal hung up
                    break
                raise self._failed(error, events, written) from error
        if written < len(content):
            raise OutputClosed(bisect_right(ends, written))

    def require_reader(self) -> None:
        """For who has nothing to write for a while.

        Raises:
            OutputClosed: nobody reads the pipe any more.
        """
        if self._reader.poll(0):
            raise OutputClosed

    def _until(self, ends: Sequence[int], start: int) -> int | None:
        """Where the piece from ``start`` ends: behind the last event that is whole in it."""
        if self._is_regular:
            return None
        most = start + select.PIPE_BUF
        whole = bisect_right(ends, most)
        return ends[whole - 1] if whole and ends[whole - 1] > start else most

    def _failed(self, error: OSError, events: Sequence[bytes], written: int) -> OutputError:
        """The error of a write, once half an event is taken back."""
        failed = failure("write", self._name, error, self._flag)
        failed.events = bisect_right(list(accumulate(map(len, events))), written)
        half = written - sum(map(len, events[: failed.events]))
        if half and self._is_regular:
            with suppress(OSError):
                end = os.lseek(self._descriptor, -half, os.SEEK_CUR)
                if os.fstat(self._descriptor).st_size == end + half:  # nobody else wrote
                    os.ftruncate(self._descriptor, end)
        return failed

    def _has_room(self) -> bool:
        """Wait for the reader; False if he is too slow once the end was requested."""
        stop = [self._stop.fd] if self._stop else []
        if select.select(stop, [self._descriptor], [])[1]:
            return True
        if self._give_up is None:
            self._give_up = time.monotonic() + _PATIENCE
        patience = max(self._give_up - time.monotonic(), 0)
        return bool(select.select([], [self._descriptor], [], patience)[1])

    def close(self) -> None:
        """Close a file that ``open_sink`` opened; an error that the disk kept back is raised.

        Raises:
            OutputError: the last of it could not be stored, or nobody can find it.
        """
        if not self._owned:
            return
        self._owned = False
        is_gone = self._is_regular and not os.fstat(self._descriptor).st_nlink
        try:
            os.close(self._descriptor)
        except OSError as error:
            raise failure("close", self._name, error, self._flag) from error
        if is_gone:
            raise OutputError(
                f"{self._name} was removed while it was written, and what was in it is lost: "
                f"choose another {self._flag}, or move the file instead"
            )

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def open_sink(path: Path | None, stop: Interrupts | None = None) -> Sink:
    """The output of a run, opened before anything is attached.

    Args:
        path: appended to, and never rotated; None is standard output.
        stop: as of Sink.

    Raises:
        OutputError: it can't be opened.
    """
    if path is None:
        if sys.stdout is None:  # fd 1 was closed, and the next file opened would get its number
            raise OutputError("standard output is closed: open it, or name an --output-file")
        return Sink(1, "standard output", owned=False, stop=stop)
    return Sink(open_appending(path), str(path), owned=True, stop=stop)


def standard_error(stop: Interrupts) -> Sink:
    """Where text goes when packets have standard output.

    Raises:
        OutputError: it is closed.
    """
    if sys.stderr is None:
        raise OutputError(
            "standard error is closed, where text goes beside --output-pcap -: open it, name an "
            "--output-file, or take --output-text=false"
        )
    return Sink(2, "standard error", owned=False, stop=stop)


def open_appending(
    path: Path,
    flag: str = FLAG,
    mode: int = 0o644,
    stop: Interrupts | None = None,
    log: Log | None = None,
) -> int:
    """A descriptor of the file, at its end; folders are made 0755, as lumberjack's.

    Args:
        flag: that named it.
        mode: of a new one.
        stop: the user's wish to end, while a named pipe has no reader.
        log: told that it has none.

    Raises:
        OutputError: it can't be opened.
        OutputClosed: the user wanted the end before a reader came.
    """
    try:
        _make_folders(path.parent)
        return _open(path, os.O_CREAT | os.O_APPEND, mode, stop, log)
    except OSError as error:
        raise failure("open", str(path), error, flag) from error


def _open(
    path: Path, flags: int, mode: int, stop: Interrupts | None, log: Log | None = None
) -> int:
    """A descriptor for writing; a named pipe waits for its reader, but no longer than the user."""
    flags |= os.O_WRONLY | os.O_CLOEXEC
    if stop is None or not path.is_fifo():
        return os.open(path, flags, mode)
    while True:
        try:
            descriptor = os.open(path, flags | os.O_NONBLOCK, mode)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which is "no reader"
                raise
            if log:
                log.info("Waiting for a reader", file=path)
                log = None
        else:
            os.set_blocking(descriptor, True)
            return descriptor
        if stop.requested() or select.select([stop.fd], [], [], _AGAIN)[0]:
            raise OutputClosed


def opened_path(descriptor: int) -> Path:
    """Where the open file is: not behind a link, nor what a link to it leads to by now."""
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def make_empty(path: Path, stop: Interrupts) -> None:
    """Make the file, or empty it: a sign for who waits for it.

    Args:
        stop: as of ``open_appending``.

    Raises:
        OutputError: it can't be.
    """
    try:
        os.close(_open(path, os.O_CREAT | os.O_TRUNC, 0o666, stop))
    except OutputClosed:
        return
    except OSError as error:
        raise OutputError(
            f"Failed to create ready file: {path}: {error.strerror}; choose another --ready-file"
        ) from error


def _make_folders(folder: Path) -> None:
    # mkdir(parents=True) gives its mode to the last folder only.
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o755, exist_ok=True)


def failure(operation: str, name: str, error: OSError, flag: str) -> OutputError:
    """The error of an output called ``name``, which ``flag`` asked for, with its cure."""
    other = "free some space" if error.errno == errno.ENOSPC else f"choose another {flag}"
    return OutputError(f"can't {operation} {name}: {error.strerror}: {cure(error, other)}")


def open_output(config: Config, stop: Interrupts, log: Log) -> Sink:
    """The output of a run, opened before anything is attached. Only regular files are rotated.

    Raises:
        OutputError: it can't be opened.
    """
    path = config.output_file
    if path is None:
        return standard_error(stop) if config.output_pcap == STDOUT else open_sink(None, stop)
    descriptor = open_appending(path, stop=stop, log=log)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # pwru would rename /dev/null
        return Sink(descriptor, str(path), owned=True, stop=stop)
    from pypwru.output.rotation import rotating

    return rotating(descriptor, config, log)
