"""Other Debian user spaces, unpacked once into the lab's cache: each has BCC with its own LLVM.

Packages are unpacked and not installed: no maintainer script runs, and what needs one isn't here.
That is enough for a Python that compiles with BCC, and for pypwru itself.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.vm.packages import Apt, alone, folder, output
from tests.support.paths import TREE

# base-files has the links /lib and /lib64 of suites that keep all in /usr.
# libc-bin has ldconfig, which Python's find_library() runs.
PACKAGES = (
    "base-files",
    "libc-bin",
    "libpcap0.8",
    "nftables",
    "python3-bpfcc",
    "python3-rich",
    "python3-scapy",
)

# Suite -> the major number of the LLVM that its BCC has.
LLVM: Mapping[str, int] = {"bullseye": 11, "trixie": 19, "sid": 21}
NEWEST = ("trixie", "sid")

_MOUNTED = ("proc", "sys", "dev", "run", "tmp")
_INSIDE = "/pypwru"
# $1: the root; $2: this checkout; then the command. All mounts end with the mount namespace.
_ENTER = f"""
for each in {" ".join(_MOUNTED)}; do mount --rbind "/$each" "$1/$each"; done
mount --bind "$2" "$1{_INSIDE}"
mount -o remount,bind,ro "$1{_INSIDE}"
root=$1
shift 2
export PYTHONPATH={_INSIDE} PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
exec chroot "$root" "$@"
"""


def root(suite: str) -> Path:
    """Return the folder of the user space of ``suite`` (a key of LLVM), unpacked if it isn't
    there.
    """
    digest = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    target = folder() / f"root-{suite}-{digest}"
    if target.is_dir():
        return target
    folder().mkdir(parents=True, exist_ok=True)
    with alone():
        if not target.is_dir():
            _make(suite, target)
    return target


def _make(suite: str, target: Path) -> None:
    print(f"lab: unpacking the user space of {suite}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as scratch:
        unpacked = Path(scratch, "root")
        unpacked.mkdir()
        for archive in Apt(suite).with_dependencies(PACKAGES, Path(scratch)):
            output("dpkg-deb", "--extract", str(archive), str(unpacked))
        output("ldconfig", "-r", str(unpacked))
        for name in (*_MOUNTED, _INSIDE.strip("/")):
            (unpacked / name).mkdir(exist_ok=True)
        unpacked.rename(target)


def inside(suite: str, command: Sequence[str]) -> list[str]:
    """Return the words that run ``command`` in the user space of ``suite``, as root.

    It has /proc, /sys, /dev, /run and /tmp of this machine, and this checkout, read-only, as
    /pypwru.
    """
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _ENTER, "sh"]
    return [*words, str(root(suite)), str(TREE), *command]
