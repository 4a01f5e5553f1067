"""The packages that the lab boots, unpacked once into a cache: Debian's kernels, pwru and a static
busybox.

Everything comes through this machine's own apt, from the Debian archive that apt already uses, with
a sources list, lists and package cache of our own, so that nothing here changes what apt installs.
The archive's signatures are checked as always, with the keyring of the package
debian-archive-keyring; a mirror for machines whose apt has no Debian archive (Ubuntu) is named by
``PYPWRU_LAB_MIRROR``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.lab import kernels

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KERNELS = tuple(row.name for row in kernels.KERNELS)
# pwru is trixie's: sid's build needs a newer libc than that of the machine whose files it uses.
TOOLS: Mapping[str, tuple[str, Sequence[str]]] = {
    "pwru": ("pwru", ("trixie",)),
    "busybox": ("busybox-static", ("bookworm", "trixie")),
}
# A kernel is one package until trixie, four in sid.
_PARTS = re.compile(r"\blinux-(?:base|binary|modules)-\d[^\s,]+")


class LabError(Exception):
    """The lab can't be set up; the message has the cure."""


def folder() -> Path:
    """``$PYPWRU_LAB``, else /var/cache/pypwru-lab for root and ~/.cache/pypwru-lab for others."""
    if named := os.environ.get("PYPWRU_LAB"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/pypwru-lab")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pypwru-lab"


def kernel(name: str) -> Path:
    """Return the folder of the unpacked kernel ``name`` (one of KERNELS), fetched if it isn't
    there.
    """
    row = kernels.kernel(name)
    return _fetched(name, row.debian, image_package(row.version))


def image_package(version: str) -> re.Pattern[str]:
    """Match names of kernels' packages whose version begins with ``version``, also release
    candidates.
    """
    number = r"(\.[^-]+(-\d+)?|-rc\d+)"
    return re.compile(rf"linux-image-{re.escape(version)}{number}-amd64")


def tool(name: str) -> Path:
    """Return the folder of the unpacked package behind ``name`` (a key of TOOLS)."""
    package, suites = TOOLS[name]
    return _fetched(name, suites, re.compile(re.escape(package)))


def describe(name: str) -> str:
    """Return the exact version of kernel ``name`` when it is there, or else where it would be
    from.
    """
    for version in folder().glob(f"{name}/lib/modules/*"):
        return version.name
    return f"not here yet, from {' or '.join(kernels.kernel(name).debian)}"


def _fetched(name: str, suites: Sequence[str], package: re.Pattern[str]) -> Path:
    target = folder() / name
    if target.is_dir():
        return target
    folder().mkdir(parents=True, exist_ok=True)
    with alone():
        if not target.is_dir():
            _fetch(suites, package, target)
    return target


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Lock the cache, which one process at a time fills."""
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(suites: Sequence[str], package: re.Pattern[str], target: Path) -> None:
    reasons = []
    for suite in suites:
        apt = Apt(suite)
        try:
            packages = apt.with_parts(apt.newest(package))
        except LabError as error:
            reasons.append(str(error))
            continue
        print(f"lab: fetching {' '.join(packages)} from {suite}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as scratch:
            unpacked = Path(scratch) / "unpacked"
            apt.unpack(packages, Path(scratch), unpacked)
            _complete_modules(unpacked)
            unpacked.rename(target)
        return
    raise LabError("; ".join(reasons))


def _complete_modules(root: Path) -> None:
    """Make both /lib/modules and /usr/lib/modules, indexed: builds of kmod look in one or the
    other.
    """
    old, new = root / "lib", root / "usr" / "lib"
    if (new / "modules").is_dir():
        old.symlink_to("usr/lib")
    elif (old / "modules").is_dir():
        new.parent.mkdir(exist_ok=True)
        new.symlink_to("../lib")
    else:
        return
    (version,) = os.listdir(root / "lib" / "modules")
    output("depmod", "-b", str(root), version)


class Apt:
    """apt on one suite, with its own state under the cache."""

    def __init__(self, suite: str) -> None:
        if not shutil.which("apt-get"):
            raise LabError("the lab's kernels come through apt-get, which this machine lacks")
        if not KEYRING.exists():
            raise LabError(f"no {KEYRING}: install the package debian-archive-keyring")
        state = folder() / "apt" / suite
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        sources = state / "sources.list"
        line = f"deb [arch=amd64 signed-by={KEYRING}] {_archive()} {suite} main\n"
        sources.write_text(line)
        settings = {
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::Cache": state,
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": state / "lists",
            "Dir::State::status": "/dev/null",
        }
        self.suite = suite
        self.options = [f"-o{key}={value}" for key, value in settings.items()]
        self.get("update")

    def get(self, *command: str, cwd: Path | None = None) -> None:
        quiet = [] if sys.stderr.isatty() else ["-qq"]
        output("apt-get", *quiet, *self.options, *command, cwd=cwd)

    def newest(self, package: re.Pattern[str]) -> str:
        """Return the package whose whole name matches, of several the one with the highest
        numbers.
        """
        names = output("apt-cache", *self.options, "pkgnames").split()
        found = [name for name in names if package.fullmatch(name)]
        if not found:
            raise LabError(f"{self.suite} has no package {package.pattern}")
        return max(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])

    def with_parts(self, package: str) -> list[str]:
        shown = output("apt-cache", *self.options, "show", "--no-all-versions", package)
        return [package, *sorted(set(_PARTS.findall(shown)))]

    def unpack(self, packages: Sequence[str], scratch: Path, target: Path) -> None:
        self.get("download", *packages, cwd=scratch)
        for archive in scratch.glob("*.deb"):
            output("dpkg-deb", "--extract", str(archive), str(target))

    def with_dependencies(self, packages: Sequence[str], scratch: Path) -> list[Path]:
        """Download ``packages`` and all that they depend on into a folder below ``scratch``."""
        archives = scratch / "archives"
        (archives / "partial").mkdir(parents=True)
        words = ("install", "--yes", "--download-only", "--no-install-recommends")
        self.get(f"-oDir::Cache::archives={archives}", *words, *packages)
        return sorted(archives.glob("*.deb"))


def _archive() -> str:
    """Return the Debian archive that this machine's apt uses."""
    if named := os.environ.get("PYPWRU_LAB_MIRROR"):
        return named
    targets = output("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)")
    for target in targets.splitlines():
        label, uri = target.split(" ", 1)
        if label == "Debian":
            return uri
    raise LabError("apt here knows no Debian archive: run apt-get update, or set PYPWRU_LAB_MIRROR")


def output(*command: str, cwd: Path | None = None) -> str:
    """Return standard output of ``command``; apt's progress goes to a terminal, its errors into
    ours.
    """
    watched = command[0] == "apt-get" and "-qq" not in command and sys.stderr.isatty()
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
        stdout=sys.stderr if watched and "indextargets" not in command else subprocess.PIPE,
        stderr=None if watched else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join((done.stderr or "").split())
        raise LabError(f"{' '.join(command[:1] + command[-2:])} failed: {reason}")
    return done.stdout or ""
