"""A folder of files made from sources and a kernel, found again by digest.

Its bytes are loaded into the kernel, so the folder must be the caller's alone: owner checked, mode
0700. A folder that isn't is not used, and neither is one that can't be made: a cache never fails a
run, it only makes the next one faster.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

try:
    # hashlib also loads OpenSSL, at a third of the price of all our modules.
    from _blake2 import blake2b
except ImportError:  # not CPython's
    from hashlib import blake2b

ENVIRONMENT = "PYPWRU_CACHE"
MAX_FILES = 256


def digest(*parts: bytes) -> str:
    """The key of ``parts``: BLAKE2b-160 over each part's length and bytes, in hex."""
    state = blake2b(digest_size=20)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


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

    def _forget_oldest(self) -> None:
        kept = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MAX_FILES]:
            path.unlink()
