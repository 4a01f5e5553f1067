"""Unbuffered sinks for events: standard output, standard error, a named pipe, an appended file.

A batch of events is one write. The rotated file is in ``files/rotation.py``.
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
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import OutputClosed, OutputError, remedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.log import Log
    from pypwru.signals import StopRequest

OPTION_NAME = "--output-file"
_POLL_INTERVAL = 0.1  # s; no file descriptor becomes ready when a named pipe gets its reader
_TIMEOUT = 2.0  # s; for a slow reader, after the stop request


class RotationLimits(NamedTuple):
    """When --output-file is rotated, and the retention of its backups, as typed.

    Args:
        max_size: MB (2**20 bytes) of the file before it is rotated; 0 for 100.
        max_backups: maximum number of backups; 0 for no limit.
        max_age: days to keep a backup; 0 for no limit.
        compress: compress backups with gzip.
    """

    max_size: int
    max_backups: int
    max_age: int
    compress: bool


class Sink:
    """An open output; a context manager that closes it.

    Args:
        descriptor: open for writing.
        name: used in error messages.
        owned: ``close`` closes the descriptor.
        stop: the stop request; after it, a slow reader (``| less``) is waited for 2 s in total.
            None: writes block until the reader takes them.
        flag: the option that names the output, used in error messages.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        owned: bool,
        stop: StopRequest | None = None,
        flag: str = OPTION_NAME,
    ) -> None:
        self._descriptor = descriptor
        self._name = name
        self._owned = owned
        self._stop = stop
        self._flag = flag
        # A write to a regular file needs no reader. A write of PIPE_BUF bytes or less doesn't block
        # if select(2) reports the descriptor as writable.
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._deadline: float | None = None  # time.monotonic(); set after the stop request
        self._reader = select.poll()
        if not self._is_regular:
            self._reader.register(descriptor, 0)  # poll(2) always reports POLLERR and POLLHUP

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def write(self, content: bytes) -> None:
        """Write content that is no event: a header, a version.

        Raises:
            OutputClosed: as ``write_events``.
            OutputError: as ``write_events``.
        """
        self.write_events([content])

    def write_events(self, events: Sequence[bytes]) -> None:
        """Write all of ``events``, each with its final line break.

        Raises:
            OutputClosed: the pipe has no reader any more, or its reader is too slow after the stop
                request. No event of PIPE_BUF bytes or less is written in part.
            OutputError: the disk is full, or the device fails. Of a regular file, an event that was
                written in part is removed.
        """
        content = memoryview(b"".join(events))
        ends = [] if self._is_regular else list(accumulate(map(len, events)))
        written = 0
        while written < len(content):
            try:
                if not self._is_regular and not self._wait_writable():
                    break
                piece = content[written : self._write_end(ends, written)]
                written += os.write(self._descriptor, piece)
            except BlockingIOError:
                continue  # another process that shares the terminal or pipe made it non-blocking
            except BrokenPipeError:
                break
            except OSError as error:
                if not self._is_regular and error.errno == errno.EIO:  # the terminal hung up
                    break
                raise self._write_error(error, events, written) from error
        if written < len(content):
            raise OutputClosed(bisect_right(ends, written))

    def require_reader(self) -> None:
        """Check for a reader while there is nothing to write.

        Raises:
            OutputClosed: the pipe has no reader any more.
        """
        if self._reader.poll(0):
            raise OutputClosed

    def _write_end(self, ends: Sequence[int], start: int) -> int | None:
        """Return the end of the next write: after as many whole events as PIPE_BUF bytes hold.

        None for a regular file: all of the rest. An event larger than PIPE_BUF is split.

        Args:
            ends: offset of the end of each event.
            start: offset of the first byte to write.
        """
        if self._is_regular:
            return None
        limit = start + select.PIPE_BUF
        count = bisect_right(ends, limit)
        return ends[count - 1] if count and ends[count - 1] > start else limit

    def _write_error(self, error: OSError, events: Sequence[bytes], written: int) -> OutputError:
        """Return the error of a write, after removing a partly written event from a regular file.

        Args:
            error: of write(2).
            events: of the failed call.
            written: bytes of them that were written.
        """
        failure = output_error("write", self._name, error, self._flag)
        failure.events_written = bisect_right(list(accumulate(map(len, events))), written)
        partial = written - sum(map(len, events[: failure.events_written]))
        if partial and self._is_regular:
            with suppress(OSError):
                end = os.lseek(self._descriptor, -partial, os.SEEK_CUR)
                # Truncate only if no other process has appended since.
                if os.fstat(self._descriptor).st_size == end + partial:
                    os.ftruncate(self._descriptor, end)
        return failure

    def _wait_writable(self) -> bool:
        """Wait until the output is writable; return False on time-out after a stop request."""
        stop = [self._stop.fd] if self._stop else []
        if select.select(stop, [self._descriptor], [])[1]:
            return True
        if self._deadline is None:
            self._deadline = time.monotonic() + _TIMEOUT
        timeout = max(self._deadline - time.monotonic(), 0)
        return bool(select.select([], [self._descriptor], [], timeout)[1])

    def close(self) -> None:
        """Close the descriptor if this sink owns it.

        Raises:
            OutputError: close(2) reported an error of an earlier write, or the file was removed
                meanwhile.
        """
        if not self._owned:
            return
        self._owned = False
        is_gone = self._is_regular and not os.fstat(self._descriptor).st_nlink
        try:
            os.close(self._descriptor)
        except OSError as error:
            raise output_error("close", self._name, error, self._flag) from error
        if is_gone:
            raise OutputError(
                f"{self._name} was removed while it was written, and what was in it is lost: "
                f"choose another {self._flag}, or move the file instead"
            )

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def open_sink(path: Path | None, stop: StopRequest | None = None) -> Sink:
    """Open an output that is never rotated.

    Args:
        path: of the file to append to; None: standard output.
        stop: as of Sink.

    Raises:
        OutputError: it can't be opened.
    """
    if path is None:
        if sys.stdout is None:  # fd 1 is closed: the next file that is opened gets its number
            raise OutputError("standard output is closed: open it, or name an --output-file")
        return Sink(1, "standard output", owned=False, stop=stop)
    return Sink(open_appending(path), str(path), owned=True, stop=stop)


def standard_error(stop: StopRequest) -> Sink:
    """Return a sink for text on standard error, while --output-pcap has standard output.

    Raises:
        OutputError: standard error is closed.
    """
    if sys.stderr is None:
        raise OutputError(
            "standard error is closed, where text goes beside --output-pcap -: open it, name an "
            "--output-file, or take --output-text=false"
        )
    return Sink(2, "standard error", owned=False, stop=stop)


def open_appending(
    path: Path,
    flag: str = OPTION_NAME,
    mode: int = 0o644,
    stop: StopRequest | None = None,
    log: Log | None = None,
) -> int:
    """Open a file for appending and return its descriptor, which the caller owns.

    Missing folders are created with mode 0755, as lumberjack does.

    Args:
        path: of the file.
        flag: the option that names it, used in error messages.
        mode: of a new file.
        stop: the stop request; ends the wait for the reader of a named pipe. None: open(2) blocks.
        log: receives a line while a named pipe has no reader.

    Raises:
        OutputError: it can't be opened.
        OutputClosed: a stop request came before the reader of a named pipe.
    """
    try:
        _create_folders(path.parent)
        return _open(path, os.O_CREAT | os.O_APPEND, mode, stop, log)
    except OSError as error:
        raise output_error("open", str(path), error, flag) from error


def _open(
    path: Path, flags: int, mode: int, stop: StopRequest | None, log: Log | None = None
) -> int:
    """Open for writing; wait for the reader of a named pipe, but not after a stop request."""
    flags |= os.O_WRONLY | os.O_CLOEXEC
    if stop is None or not path.is_fifo():
        return os.open(path, flags, mode)
    while True:
        try:
            descriptor = os.open(path, flags | os.O_NONBLOCK, mode)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no reader
                raise
            if log:
                log.info("Waiting for a reader", file=path)
                log = None
        else:
            os.set_blocking(descriptor, True)
            return descriptor
        if stop.requested() or select.select([stop.fd], [], [], _POLL_INTERVAL)[0]:
            raise OutputClosed


def path_of_descriptor(descriptor: int) -> Path:
    """Return the path of an open file: of the file itself, even if it was opened by a link."""
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def touch_ready_file(path: Path, stop: StopRequest) -> None:
    """Create or empty the ready file, a signal to the programs that wait for it.

    Args:
        path: of the file.
        stop: as of ``open_appending``; a named pipe without reader is left alone after it.

    Raises:
        OutputError: it can't be created or emptied.
    """
    try:
        os.close(_open(path, os.O_CREAT | os.O_TRUNC, 0o666, stop))
    except OutputClosed:
        return
    except OSError as error:
        raise OutputError(
            f"Failed to create ready file: {path}: {error.strerror}",
            "choose another --ready-file",
        ) from error


def _create_folders(folder: Path) -> None:
    # mkdir(parents=True) applies its mode to the last folder only.
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o755, exist_ok=True)


def output_error(operation: str, name: str, error: OSError, flag: str) -> OutputError:
    """Return an OutputError that names the operation, the output and the remedy.

    Args:
        operation: verb, as in "can't write".
        name: of the output.
        error: its cause.
        flag: the option that names the output.
    """
    advice = "free some space" if error.errno == errno.ENOSPC else f"choose another {flag}"
    return OutputError(f"can't {operation} {name}: {error.strerror}: {remedy(error, advice)}")


def open_output(
    path: Path | None,
    limits: RotationLimits,
    stop: StopRequest,
    log: Log,
    *,
    is_stdout_taken: bool,
) -> Sink:
    """Open the output for events of a run, before anything is attached.

    Args:
        path: of --output-file; None without it.
        limits: of that file; only regular files are rotated.
        stop: the stop request.
        log: receives what concerns the output while the run goes on.
        is_stdout_taken: whether --output-pcap has standard output: without ``path`` events then go
            to standard error.

    Raises:
        OutputError: it can't be opened.
        OutputClosed: a stop request came before the reader of a named pipe.
    """
    if path is None:
        return standard_error(stop) if is_stdout_taken else open_sink(None, stop)
    descriptor = open_appending(path, stop=stop, log=log)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # pwru would rename /dev/null
        return Sink(descriptor, str(path), owned=True, stop=stop)
    from pypwru.files.rotation import make_rotating_sink

    return make_rotating_sink(descriptor, limits, log)
