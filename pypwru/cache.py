"""A folder of files made from sources and a kernel, found again by digest.

Its bytes are loaded into the kernel, so the folder must be the caller's alone (owner checked, mode
0700), and each file begins with a digest of its key and content. A folder that isn't is not used,
and neither is one that can't be made, which the log says once; a damaged file counts as none. A
cache never fails a run, it only makes the next one faster.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.log import Log

try:
    # hashlib also loads OpenSSL, at a third of the price of all our modules.
    from _blake2 import blake2b
except ImportError:  # not CPython's
    from hashlib import blake2b

ENVIRONMENT = "PYPWRU_CACHE"
MAX_FILES = 256
SUFFIX = ".pypwru"
_MAX_SIZE = 1 << 26  # bytes
_DIGEST_SIZE = 40  # in hex
# The folder may also hold files of others.
_OWN_NAME = re.compile(r"[\w-]+-[0-9a-f]{40}\.pypwru(\.new-[0-9a-f]{16})?")
# Not behind a link, and not waiting for whoever writes to a named pipe.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CURE = f"name a folder of your own in {ENVIRONMENT}"
Json = TypeVar("Json")


def digest(*parts: bytes) -> str:
    """The key of ``parts``: BLAKE2b-160 over each part's length and bytes, in hex."""
    state = blake2b(digest_size=20)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def package_digest(folders: Sequence[str], *parts: str) -> str:
    """The key of ``parts`` for what the modules and tables in ``folders`` of pypwru make of them.

    Args:
        folders: names of subpackages; of each file, its name, size and time of change count.
    """
    files = [
        f"{folder}/{entry.name} {entry.stat().st_size} {entry.stat().st_mtime_ns}"
        for folder in folders
        for entry in os.scandir(Path(__file__).with_name(folder))
        if entry.is_file()
    ]
    return digest(*(part.encode() for part in (*sorted(files), *parts)))


def default_folder() -> Path | None:
    """``$PYPWRU_CACHE``, else /var/cache/pypwru for root and ~/.cache/pypwru for others.

    Returns:
        None for a user without a home.
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/cache/pypwru")
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(base):
            return Path(base, "pypwru")
    return None


class Cache:
    """Files by key: a word, a dash and a digest.

    Args:
        folder: where they live, made by the first ``put``; None for ``default_folder()``.
        log: told once why nothing is kept.
    """

    def __init__(self, folder: Path | None = None, log: Log | None = None) -> None:
        self.folder = folder or default_folder()
        self._log = log

    def get(self, key: str) -> bytes | None:
        """The bytes kept under ``key``; None where there are none, or they are damaged."""
        try:
            with self._opened() as folder:
                kept = _read(folder, key + SUFFIX)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log_unused(error)
            return None
        content = kept[_DIGEST_SIZE:]
        is_whole = kept[:_DIGEST_SIZE] == digest(key.encode(), content).encode()
        return content if is_whole else None

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` under ``key``, whole or not at all. Never raises OSError."""
        try:
            if self.folder:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._opened() as folder:
                _write(folder, key + SUFFIX, digest(key.encode(), content).encode() + content)
                _evict_oldest(folder)
        except OSError as error:
            self._log_unused(error)

    def find_json(self, key: str) -> Any:
        """What ``put_json`` kept under ``key``; None where there is nothing, or it is damaged."""
        kept = self.get(key)
        return None if kept is None else json.loads(kept)

    def put_json(self, key: str, value: object) -> None:
        """Keep ``value``, as JSON, under ``key``."""
        self.put(key, json.dumps(value, separators=(",", ":")).encode())

    def remembered(self, key: str, make: Callable[[], Json]) -> Json:
        """What ``make`` gives, or gave when it was called for ``key`` before."""
        kept = self.find_json(key)
        if kept is None:
            kept = make()
            self.put_json(key, kept)
        found: Json = kept
        return found

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the folder: what is checked is what is used.

        Raises:
            OSError: it can't be opened, or is not the caller's alone.
        """
        if self.folder is None:
            raise OSError(errno.ENOENT, f"this user has no home: {_CURE}")
        with owned(os.open(self.folder, _READ | os.O_DIRECTORY)) as descriptor:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, f"it is user {found.st_uid}'s: {_CURE}")
            if mode := stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(
                    errno.EPERM, f"others may enter it (mode {mode:03o}): chmod 700 it, or {_CURE}"
                )
            yield descriptor

    def _log_unused(self, error: OSError) -> None:
        if self._log:
            place = {"folder": self.folder} if self.folder else {}
            message = "No cache: each start takes as long as the first"
            self._log.info(message, **place, why=error.strerror)
            self._log = None


def _read(folder: int, name: str) -> bytes:
    """The content of a regular file, up to a size that none of ours has; of others nothing."""
    with owned(os.open(name, _READ, dir_fd=folder)) as descriptor:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return b""
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(min(found.st_size, _MAX_SIZE))  # it makes room for as much as is asked


def _write(folder: int, name: str, content: bytes) -> None:
    """Make the file, or replace it: on the disk before it has its name."""
    draft = f"{name}.new-{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise


def _evict_oldest(folder: int) -> None:
    """Remove the oldest of our files beyond MAX_FILES."""

    def changed(name: str) -> int:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns

    with contextlib.suppress(OSError):  # another run removes them, too
        kept = sorted(filter(_OWN_NAME.fullmatch, os.listdir(folder)), key=changed)
        for name in kept[:-MAX_FILES]:
            os.unlink(name, dir_fd=folder)
