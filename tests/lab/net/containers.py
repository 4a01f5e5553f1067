"""Network namespaces like containers' in a guest, with nftables in them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab.net.topology import inside, run

_PAUSE = 0.01  # seconds between two packets
_TIMEOUT = 600.0  # seconds; emulated CPUs are slow
_LIMIT = Path("/proc/sys/user/max_net_namespaces")
_WITH_HANDLES = 8  # NFT_CTX_OUTPUT_HANDLE


def until(fact: str, is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + _TIMEOUT
    while not is_true():
        if time.monotonic() > end:
            raise RuntimeError(f"no {fact}")
        select.select([], [], [], 0.01)


def count_namespaces() -> int:
    """Return the least limit of network namespaces at which there can be one more.

    A namespace counts until the kernel has removed it, some time after its last user's end.
    """
    before = _LIMIT.read_text()
    try:
        for limit in itertools.count(1):
            _LIMIT.write_text(str(limit))
            tried = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
            if tried.returncode == 0:
                return limit
        raise AssertionError
    finally:
        _LIMIT.write_text(before)


class Container:
    """A network namespace like a container's: only a process holds it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.path = f"/proc/{self._process.pid}/ns/net"
        own = os.stat("/proc/self/ns/net").st_ino
        until("namespace", lambda: os.stat(self.path).st_ino != own)
        self.inode = os.stat(self.path).st_ino
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str, words: str | None = None) -> None:
        run("nsenter", f"--net={self.path}", *command, words=words)

    def output(self, *command: str) -> str:
        words = ["nsenter", f"--net={self.path}", *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def load(self, rules: str) -> None:
        """Load rules by nft, in one transaction."""
        self.run("nft", "-f", "-", words=rules)

    def send(self, port: int, count: int = 1) -> None:
        with inside(self.path), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                with contextlib.suppress(ConnectionRefusedError):
                    sender.sendto(b"rule", ("127.0.0.1", port))

    @contextlib.contextmanager
    def flow(self, port: int) -> Iterator[None]:
        """Send packets in the block, one after another."""
        done = threading.Event()

        def send() -> None:
            while not done.wait(_PAUSE):
                self.send(port)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Nft:
    """libnftables: a transaction without a process, many a second on an emulated CPU."""

    def __init__(self, container: Container) -> None:
        self._library = library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        with inside(container.path):
            self._context = ctypes.c_void_p(library.nft_ctx_new(0))
        library.nft_ctx_output_set_flags(self._context, _WITH_HANDLES)
        library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()):
            raise RuntimeError(f"nft refuses {commands}")
        written: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        return written.decode()
