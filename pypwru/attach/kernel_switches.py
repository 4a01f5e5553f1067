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
from pypwru.fds import closing_fd
from pypwru.kernel import pseudofs

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
        disables_all: backends of which no probe fires while it is off.
        disables_some: backends of which some probes don't fire while it is off.
    """

    name: str
    filesystem: str
    folder: str
    file: str
    disables_all: frozenset[Backend]
    disables_some: frozenset[Backend] = frozenset()

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


def disabling_switch(backend: Backend) -> Switch | None:
    """Return the switch that is off and disables all probes of a backend; None if there is none."""
    for switch in SWITCHES:
        if backend in switch.disables_all:
            with contextlib.suppress(OSError), closing_fd(switch.open()) as fd:
                if is_off(fd):
                    return switch
    return None


@contextmanager
def watch_switches(backends: Collection[Backend], log: Log) -> Iterator[Callable[[], None]]:
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
            if (switch.disables_all | switch.disables_some).intersection(backends):
                with contextlib.suppress(OSError):
                    files[switch] = stack.enter_context(closing_fd(switch.open()))
        known_off: set[Switch] = set()

        def poll() -> None:
            currently_off = {switch for switch, fd in files.items() if is_off(fd)}
            for switch in currently_off - known_off:
                scope = "" if switch.disables_all.intersection(backends) else " in some functions"
                log.warn(
                    f"Not seeing packets{scope}: {switch.name} was switched off",
                    cure=f"echo 1 > {switch.path}",
                )
            for switch in known_off - currently_off:
                log.warn(f"Seeing packets again: {switch.name} was switched on")
            known_off.clear()
            known_off.update(currently_off)

        yield poll
