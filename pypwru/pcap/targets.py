"""The target of a capture: standard output, a named pipe, a device, or a rotated file.

An existing file is overwritten, as by tcpdump, but only at the first write: a run that fails to
start leaves it as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING

from pypwru.config import STDOUT
from pypwru.errors import OutputError, UsageError
from pypwru.files.backups import Rotation
from pypwru.files.rotation import RotatingSink
from pypwru.files.sink import Sink, open_appending, output_error, path_of_descriptor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pypwru.log import Log
    from pypwru.signals import StopRequest

OPTION_NAME = "--output-pcap"
_FILE_MODE = 0o600  # packets are private: the mode that dumpcap uses
_NO_SIZE_LIMIT = sys.maxsize


class CaptureFileSink(RotatingSink):
    """A regular file of packets, rotated only by calls of ``rotate``; locked against other runs."""

    _is_emptied = False

    def write_events(self, events: Sequence[bytes]) -> None:
        """Write all of ``events``, or none; the first call empties the file before.

        Raises:
            OutputError: the disk is full, or the device fails.
        """
        if not self._is_emptied:
            self._is_emptied = True
            self._truncate(0)
        try:
            super().write_events(events)
        except OutputError:
            # Remove the blocks of this call that were written, so that the file stays valid.
            with contextlib.suppress(OutputError):
                self._truncate(self._size)
            raise

    def rotate(self) -> None:
        """Rename the file to a backup, and continue in a new one, which is locked too.

        Raises:
            OutputError: the folder takes no new file, or another run has locked it. ``close`` is
                still to be called.
        """
        super().rotate()
        _lock(self._descriptor, self._path)

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise output_error("empty", self._name, error, self._flag) from error
        self._size = size


CaptureTarget = Sink | CaptureFileSink


def open_target(path: Path, max_files: int, stop: StopRequest, log: Log) -> CaptureTarget:
    """Open the target of --output-pcap.

    Args:
        path: of the file; ``-`` is standard output.
        max_files: maximum number of files, with the current one; 0 for no limit.
        stop: the stop request.
        log: receives what concerns the target while the run goes on.

    Raises:
        OutputError: it can't be opened, or another run writes to the file.
        OutputClosed: a stop request came before the reader of a named pipe.
        UsageError: standard output is a terminal.
    """
    if path == STDOUT:
        return _standard_output(stop)
    descriptor = open_appending(path, OPTION_NAME, _FILE_MODE, stop, log)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return Sink(descriptor, str(path), owned=True, stop=stop, flag=OPTION_NAME)
    try:
        _lock(descriptor, path)
    except OutputError:
        os.close(descriptor)
        raise
    # Of a symbolic link the target is rotated, so that the link still leads to the newest file.
    max_backups = max_files - 1 if max_files else None
    rotation = Rotation(_NO_SIZE_LIMIT, max_backups, max_age=0, compress=False)
    return CaptureFileSink(
        descriptor, path_of_descriptor(descriptor), rotation, log, flag=OPTION_NAME
    )


def _lock(descriptor: int, path: Path) -> None:
    """Lock a file against other runs: a file that two runs write to is no valid capture.

    Raises:
        OutputError: another run has locked it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"can't write {path}: another pypwru writes to it: choose another {OPTION_NAME}"
        ) from error
    except OSError:
        pass  # the file system has no locks


def _standard_output(stop: StopRequest) -> Sink | CaptureFileSink:
    if sys.stdout is None:  # fd 1 is closed: the next file that is opened gets its number
        raise OutputError(f"standard output is closed: open it, or name a file with {OPTION_NAME}")
    if os.isatty(1):
        raise UsageError(
            f"{OPTION_NAME} - writes no text, and standard output is a terminal: pipe it, as in "
            "| wireshark -k -i -, or name a file"
        )
    return Sink(1, "standard output", owned=False, stop=stop, flag=OPTION_NAME)
