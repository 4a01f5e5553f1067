"""Where a pcap goes: standard output, a named pipe or device, or a file that is rotated.

A file takes the place of an older one of its name, as tcpdump's does, but only when the first of it
is written: a run that never begins has emptied nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING

from pypwru.config import STDOUT, Config
from pypwru.errors import OutputError, UsageError
from pypwru.output.backups import Rotation
from pypwru.output.rotation import RotatingSink
from pypwru.output.sink import Sink, failure, open_appending, opened_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pypwru.log import Log
    from pypwru.signals import Interrupts

FLAG = "--output-pcap"
_MODE = 0o600  # packets are nobody else's, as dumpcap has it
_NEVER_BY_ITSELF = sys.maxsize


class FileSink(RotatingSink):
    """A regular file, which is rotated when it is told to be."""

    _is_ours = False

    def write_events(self, events: Sequence[bytes]) -> None:
        """Write all of ``events``, the first ones in place of what was in the file, or none.

        Raises:
            OutputError: a full disk, a failing device.
        """
        if not self._is_ours:
            self._is_ours = True
            self._cut(0)
        try:
            super().write_events(events)
        except OutputError:
            with contextlib.suppress(OutputError):  # what was written before stays valid
                self._cut(self._size)
            raise

    def rotate(self) -> None:
        """Begin a new file, which is as much ours as the one before.

        Raises:
            OutputError: a folder that takes none.
        """
        super().rotate()
        _lock(self._descriptor, self._path)

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise failure("empty", self._name, error, self._flag) from error
        self._size = size


Target = Sink | FileSink


def open_target(config: Config, stop: Interrupts, log: Log) -> Target:
    """What ``--output-pcap`` names.

    Raises:
        OutputError: it can't be opened.
        UsageError: nobody would want to read it there.
    """
    path = config.output_pcap
    assert path is not None, "somebody asked for one"
    if path == STDOUT:
        return _standard_output(stop)
    descriptor = open_appending(path, FLAG, _MODE, stop, log)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return Sink(descriptor, str(path), owned=True, stop=stop, flag=FLAG)
    _lock(descriptor, path)
    # Behind a link it is the file that is rotated, and the link still leads to the newest.
    others = config.pcap_max_files - 1 if config.pcap_max_files else None
    rotation = Rotation(_NEVER_BY_ITSELF, others, max_age=0, compress=False)
    return FileSink(descriptor, opened_path(descriptor), rotation, log, flag=FLAG)


def _lock(descriptor: int, path: Path) -> None:
    """Keep others from writing to a file: what two runs write to one is no capture.

    Raises:
        OutputError: another run has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OutputError(
            f"can't write {path}: another pypwru writes to it: choose another {FLAG}"
        ) from error
    except OSError:
        pass  # a file system without locks


def _standard_output(stop: Interrupts) -> Sink | FileSink:
    if sys.stdout is None:  # fd 1 was closed, and the next file opened would get its number
        raise OutputError(f"standard output is closed: open it, or name a file with {FLAG}")
    if os.isatty(1):
        raise UsageError(
            f"{FLAG} - writes no text, and standard output is a terminal: pipe it, as in "
            "| wireshark -k -i -, or name a file"
        )
    return Sink(1, "standard output", owned=False, stop=stop, flag=FLAG)
