"""A cache folder of files derived from sources and a kernel, keyed by digest.

The cached bytes are loaded into the kernel, so the folder must belong to the caller alone (owner
is checked, mode 0700), and each file begins with a digest of its key and content. A folder that
fails this check or can't be created is not used, and the log reports that once; a damaged file is
treated as missing. A cache never fails a run, it only makes the next one faster.
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

from pypwru.fds import closing_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.log import Log

try:
    # hashlib also loads OpenSSL, which takes a third as long as all our modules together.
    from _blake2 import blake2b
except ImportError:  # not CPython
    from hashlib import blake2b

ENV_VARIABLE = "PYPWRU_CACHE"
MAX_FILES = 256
SUFFIX = ".pypwru"
_MAX_SIZE = 1 << 26  # bytes
_DIGEST_SIZE = 40  # hex digits
# The folder may also hold files that other programs made.
_OWN_NAME = re.compile(r"[\w-]+-[0-9a-f]{40}\.pypwru(\.new-[0-9a-f]{16})?")
# Follow no symbolic link; don't block on a named pipe that has no writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REMEDY = f"name a folder of your own in {ENV_VARIABLE}"
Json = TypeVar("Json")


def digest(*parts: bytes) -> str:
    """Return the cache key of ``parts``: BLAKE2b-160 over each part's length and bytes, in hex."""
    state = blake2b(digest_size=20)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def package_digest(folders: Sequence[str], *parts: str) -> str:
    """Return the key of ``parts`` as processed by the present code and tables in ``folders``.

    Args:
        folders: names of pypwru's subpackages; of each file, name, size and modification time
            enter the digest.
        parts: the inputs.
    """
    files = [
        f"{folder}/{entry.name} {entry.stat().st_size} {entry.stat().st_mtime_ns}"
        for folder in folders
        for entry in os.scandir(Path(__file__).with_name(folder))
        if entry.is_file()
    ]
    return digest(*(part.encode() for part in (*sorted(files), *parts)))


def default_folder() -> Path | None:
    """Return ``$PYPWRU_CACHE``, else /var/cache/pypwru for root, ~/.cache/pypwru for other users.

    Returns:
        None for a user without a home directory.
    """
    if from_env := os.environ.get(ENV_VARIABLE):
        return Path(from_env)
    if os.geteuid() == 0:
        return Path("/var/cache/pypwru")
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(base):
            return Path(base, "pypwru")
    return None


class Cache:
    """A cache of files, by keys of the form ``word-digest``.

    Args:
        folder: of the files, created by the first ``put``; None for ``default_folder()``.
        log: gets one message if the folder can't be used; None for no message.
    """

    def __init__(self, folder: Path | None = None, log: Log | None = None) -> None:
        self.folder = folder or default_folder()
        self._log = log

    def get(self, key: str) -> bytes | None:
        """Return the bytes cached under ``key``; None if there are none or they are damaged."""
        try:
            with self._open_folder() as folder:
                raw = _read(folder, key + SUFFIX)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log_unused(error)
            return None
        content = raw[_DIGEST_SIZE:]
        is_whole = raw[:_DIGEST_SIZE] == digest(key.encode(), content).encode()
        return content if is_whole else None

    def put(self, key: str, content: bytes) -> None:
        """Store ``content`` under ``key`` atomically. Never raises OSError."""
        try:
            if self.folder:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open_folder() as folder:
                _write(folder, key + SUFFIX, digest(key.encode(), content).encode() + content)
                _evict_oldest(folder)
        except OSError as error:
            self._log_unused(error)

    def get_json(self, key: str) -> Any:
        """Return the value that ``put_json`` stored under ``key``; None if missing or damaged."""
        cached = self.get(key)
        return None if cached is None else json.loads(cached)

    def put_json(self, key: str, value: object) -> None:
        """Store ``value`` as JSON under ``key``."""
        self.put(key, json.dumps(value, separators=(",", ":")).encode())

    def get_or_make(self, key: str, make: Callable[[], Json]) -> Json:
        """Return the value cached under ``key``; on a miss call ``make`` and store its result."""
        cached = self.get_json(key)
        if cached is None:
            cached = make()
            self.put_json(key, cached)
        result: Json = cached
        return result

    @contextlib.contextmanager
    def _open_folder(self) -> Iterator[int]:
        """Open the folder and check it. All access is relative to the checked descriptor.

        Yields:
            The folder's file descriptor, valid until the way out.

        Raises:
            OSError: the folder can't be opened, or other users own it or may enter it.
        """
        if self.folder is None:
            raise OSError(errno.ENOENT, f"this user has no home: {_REMEDY}")
        with closing_fd(os.open(self.folder, _READ | os.O_DIRECTORY)) as descriptor:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, f"it is user {status.st_uid}'s: {_REMEDY}")
            if mode := stat.S_IMODE(status.st_mode) & 0o077:
                raise PermissionError(
                    errno.EPERM,
                    f"others may enter it (mode {mode:03o}): chmod 700 it, or {_REMEDY}",
                )
            yield descriptor

    def _log_unused(self, error: OSError) -> None:
        if self._log:
            attributes = {"folder": self.folder} if self.folder else {}
            message = "No cache: each start takes as long as the first"
            self._log.info(message, **attributes, why=error.strerror)
            self._log = None


def _read(folder: int, name: str) -> bytes:
    """Return the content of a regular file, at most _MAX_SIZE bytes; b"" for other file types."""
    with closing_fd(os.open(name, _READ, dir_fd=folder)) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b""
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(min(status.st_size, _MAX_SIZE))  # read() allocates this much up front


def _write(folder: int, name: str, content: bytes) -> None:
    """Create or replace the file; it is synced to disk before it is renamed to its final name."""
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
    """Remove the oldest of our files until MAX_FILES remain."""

    def mtime_ns(name: str) -> int:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns

    with contextlib.suppress(OSError):  # a concurrent run may remove the same file
        names = sorted(filter(_OWN_NAME.fullmatch, os.listdir(folder)), key=mtime_ns)
        for name in names[:-MAX_FILES]:
            os.unlink(name, dir_fd=folder)
