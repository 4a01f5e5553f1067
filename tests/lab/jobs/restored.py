"""Restores a guest after a job: the state that the next job may rely on.

Restored are processes, network namespaces, devices, rules of nftables and probes of the guest's own
namespace, mounts, files under /run, settings under /proc/sys/net and /proc/sys/user, and modules as
far as they can be unloaded: with nf_tables loaded, every run compiles its programs as well. The
kernel's caches are not restored; a job for which they matter has that in its row of suites.py.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tests.lab.net.containers import count_namespaces

_RUN = Path("/run")
_TRACING = Path("/sys/kernel/tracing")
_SETTINGS = [Path("/proc/sys", name) for name in ("net", "user")]
_TIMEOUT = 600.0  # seconds


@contextlib.contextmanager
def restored(keep: Path) -> Iterator[None]:
    """Remove what the block leaves behind, and set back what it changed.

    Args:
        keep: a folder under /run that stays.
    """
    programs, devices, mounts, files = processes(), links(), mounted(), set(_RUN.iterdir())
    before, namespaces, loaded = settings(), count_namespaces(), modules()
    try:
        yield
    finally:
        _until("end of the job's processes", lambda: not _killed(processes() - programs))
        _remove_probes()
        subprocess.run(["nft", "flush", "ruleset"], check=False)
        for name in os.listdir("/run/netns"):
            subprocess.run(["ip", "netns", "delete", name], check=False)
        for name in links() - devices:  # a device that a module makes can't be deleted
            subprocess.run(["ip", "link", "delete", name], check=False, stderr=subprocess.DEVNULL)
        for path in reversed(mounted()):
            if path not in mounts:
                subprocess.run(["umount", path], check=False)
        for file in set(_RUN.iterdir()) - files - {keep}:
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
        now = settings()
        for setting, value in before.items():
            if now.get(setting) != value:
                with contextlib.suppress(OSError):
                    setting.write_text(value)
        _until("end of the job's namespaces", lambda: count_namespaces() <= namespaces)
        _unload(loaded)


def _until(fact: str, is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + _TIMEOUT
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"no {fact}")
        select.select([], [], [], 0.05)


def processes() -> set[int]:
    """Return all but the kernel's threads and ended ones."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                os.readlink(f"/proc/{name}/exe")
                found.add(int(name))
    return found


def _killed(left: set[int]) -> set[int]:
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left


def _remove_probes() -> None:
    for switch in _TRACING.glob("events/kprobes/*/enable"):
        switch.write_text("0")
    with contextlib.suppress(OSError):
        (_TRACING / "kprobe_events").write_text("")


def modules() -> dict[str, int]:
    """Map each loaded module to the number of its users."""
    lines = Path("/proc/modules").read_text().splitlines()
    return {name: int(users) for name, _, users, *_ in map(str.split, lines)}


def _unload(keep: Collection[str]) -> None:
    """Unload modules that are not in ``keep``, users first, as far as the kernel allows it."""
    while idle := [name for name, users in modules().items() if not users and name not in keep]:
        done = [
            subprocess.run(["rmmod", name], check=False, stderr=subprocess.DEVNULL) for name in idle
        ]
        if all(one.returncode for one in done):
            return


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def mounted() -> list[str]:
    """Return mount points, in the order in which they were mounted."""
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]


def settings() -> dict[Path, str]:
    """Return the settings that can be read and written, by file."""
    found = {}
    for top in _SETTINGS:
        for folder, _, names in os.walk(top):
            for name in names:
                file = Path(folder, name)
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    if file.stat().st_mode & 0o600 == 0o600:
                        found[file] = file.read_text()
    return found
