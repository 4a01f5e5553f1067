"""A folder of files made from sources and a kernel, found again by digest.

Its bytes are loaded into the kernel, so the folder must be the caller's alone: owner checked, mode
0700. A folder that isn't is not used, and neither is one that can't be made: a cache never fails a
run, it only makes the next one faster.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

try:
    # hashlib also loads OpenSSL, at a third of the price of all our modules.
    from _blake2 import blake2b
except ImportError:  # not CPython's
    from hashlib import blake2b

ENVIRONMENT = "PYPWRU_CACHE"
MAX_FILES = 256
_DIGEST_SIZE = 40
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


def default_folder() -> Path:
    """``$PYPWRU_CACHE``, else /var/cache/pypwru for root and ~/.cache/pypwru for others."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/cache/pypwru")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pypwru"


class Cache:
    """Files by key.

    Args:
        folder: where they live; made on the first write.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def _trusted(self) -> bool:
        try:
            found = os.lstat(self.folder)
        except OSError:
            return False
        private = stat.S_IMODE(found.st_mode) & 0o077 == 0
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and private

    def get(self, key: str) -> bytes | None:
        """The bytes kept under ``key``, or None."""
        if not self._trusted():
            return None
        try:
            return (self.folder / key).read_bytes()
        except OSError:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` under ``key``, whole or not at all. Never raises OSError."""
        import tempfile

        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._trusted():
                return
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.replace(name, self.folder / key)
            except OSError:
                os.unlink(name)
            self._forget_oldest()

    def find_json(self, key: str) -> Any:
        """What ``put_json`` kept under ``key``; None where there is nothing, or it is damaged."""
        kept = self.get(key)
        if kept is None or kept[:_DIGEST_SIZE] != digest(kept[_DIGEST_SIZE:]).encode():
            return None
        return json.loads(kept[_DIGEST_SIZE:])

    def put_json(self, key: str, value: object) -> None:
        """Keep ``value``, as JSON behind a digest of it, under ``key``."""
        content = json.dumps(value, separators=(",", ":")).encode()
        self.put(key, digest(content).encode() + content)

    def remembered(self, key: str, make: Callable[[], Json]) -> Json:
        """What ``make`` gives, or gave when it was called for ``key`` before."""
        kept = self.find_json(key)
        if kept is None:
            kept = make()
            self.put_json(key, kept)
        found: Json = kept
        return found

    def _forget_oldest(self) -> None:
        kept = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MAX_FILES]:
            path.unlink()
