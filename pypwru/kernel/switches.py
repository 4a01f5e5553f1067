"""Global switches of the kernel that disable probes: attaching succeeds, but no probe fires.

Administrators set them while debugging; the kernel has no notification, so they are polled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Backend
from pypwru.kernel import pseudofs
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pypwru.log import Log


class Switch(NamedTuple):
    """A file that contains 0 while the switch is off.

    Args:
        name: of the kernel facility, for messages.
        filesystem: type of the file's filesystem, as in mount(8).
        folder: its usual mount point.
        file: path below ``folder``.
        silences: backends of which no probe fires while it is off.
        thins: backends of which some probes don't fire while it is off.
    """

    name: str
    filesystem: str
    folder: str
    file: str
    silences: frozenset[Backend]
    thins: frozenset[Backend] = frozenset()

    @property
    def path(self) -> str:
        """Path of the file at the usual mount point, for messages."""
        return f"{self.folder}/{self.file}"

    def open(self) -> int:
        """Open the file for reading; the caller closes the descriptor.

        Raises:
            OSError: the kernel has no such switch, or no right to read it.
        """
        return pseudofs.open_file(self.filesystem, self.file, (self.folder,))


SWITCHES = (
    # Documentation/trace/kprobes.rst, "The kprobes debugfs interface".
    Switch(
        "kprobes", "debugfs", "/sys/kernel/debug", "kprobes/enabled", frozenset({Backend.KPROBE})
    ),
    # Documentation/admin-guide/sysctl/kernel.rst. Most kprobes are placed after the ftrace call
    # site and don't depend on ftrace; those exactly at it do (arm_kprobe_ftrace() of
    # kernel/kprobes.c).
    Switch(
        "ftrace",
        "proc",
        "/proc",
        "sys/kernel/ftrace_enabled",
        frozenset({Backend.FENTRY_MULTI, Backend.KPROBE_MULTI, Backend.FENTRY}),
        frozenset({Backend.KPROBE}),
    ),
)


def is_off(fd: int) -> bool:
    """Return whether a switch is off; ``fd``: descriptor of its file."""
    return os.pread(fd, 8, 0).strip() == b"0"


def silenced(backend: Backend) -> Switch | None:
    """Return the switch that is off and disables all probes of a backend; None if there is none."""
    for switch in SWITCHES:
        if backend in switch.silences:
            with contextlib.suppress(OSError), owned(switch.open()) as fd:
                if is_off(fd):
                    return switch
    return None


@contextmanager
def watched_switches(backends: Collection[Backend], log: Log) -> Iterator[Callable[[], None]]:
    """Watch the switches that affect ``backends``.

    Args:
        backends: those in use.
        log: for a warning when a switch is turned off or on.

    Yields:
        A function that reads the switches and logs changes; valid in the context.
    """
    with ExitStack() as stack:
        files: dict[Switch, int] = {}
        for switch in SWITCHES:
            if (switch.silences | switch.thins).intersection(backends):
                with contextlib.suppress(OSError):
                    files[switch] = stack.enter_context(owned(switch.open()))
        off: set[Switch] = set()

        def poll() -> None:
            now = {switch for switch, fd in files.items() if is_off(fd)}
            for switch in now - off:
                some = "" if switch.silences.intersection(backends) else " in some functions"
                log.warn(
                    f"Not seeing packets{some}: {switch.name} was switched off",
                    cure=f"echo 1 > {switch.path}",
                )
            for switch in off - now:
                log.warn(f"Seeing packets again: {switch.name} was switched on")
            off.clear()
            off.update(now)

        yield poll
