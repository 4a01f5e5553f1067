"""The switches that silence probes: these are attached without an error, and see nothing.

Whoever debugs a machine turns them off by hand; no call of the kernel's tells of it.
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
    """A file that holds 0 while what it is for is off.

    Args:
        name: what it switches.
        filesystem: type of the file's filesystem, as mount(8) names it.
        folder: where that usually is mounted.
        file: path below ``folder``.
        silences: backends whose probes see nothing while it is off.
        thins: backends of whose probes some see nothing then.
    """

    name: str
    filesystem: str
    folder: str
    file: str
    silences: frozenset[Backend]
    thins: frozenset[Backend] = frozenset()

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.file}"

    def open(self) -> int:
        """A descriptor of the file.

        Raises:
            OSError: the kernel has no such switch, or no right to look at it.
        """
        return pseudofs.open_file(self.filesystem, self.file, (self.folder,))


SWITCHES = (
    # Documentation/trace/kprobes.rst, "The kprobes debugfs interface".
    Switch(
        "kprobes", "debugfs", "/sys/kernel/debug", "kprobes/enabled", frozenset({Backend.KPROBE})
    ),
    # Documentation/admin-guide/sysctl/kernel.rst. Kprobes are put behind ftrace's hook: most of
    # them don't need it, those at its very place do (arm_kprobe_ftrace() of kernel/kprobes.c).
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
    """Whether a switch is off.

    Args:
        fd: of its file.
    """
    return os.pread(fd, 8, 0).strip() == b"0"


def silenced(backend: Backend) -> Switch | None:
    """The switch that silences a backend's probes now; None where nothing does."""
    for switch in SWITCHES:
        if backend in switch.silences:
            with contextlib.suppress(OSError), owned(switch.open()) as fd:
                if is_off(fd):
                    return switch
    return None


@contextmanager
def watched_switches(backends: Collection[Backend], log: Log) -> Iterator[Callable[[], None]]:
    """What looks at the switches that silence ``backends``, or thin them, and says when one was
    thrown.
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
