"""Damaged files that a run reads, the largest numbers, and the files that a run writes."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pypwru.cache import Cache
from tests.native.tracing import (
    environment,
    need_tracing,
    network,
    pypwru,
    tracing,
)
from tests.support.need import is_full_tier, need
from tests.unit.test_cache import spoilt

pytestmark = pytest.mark.native

ENDS_ONCE_READY = ("--backend=tracepoint", "--ready-file=/nonexistent/folder/ready")
NO_MATCH = "icmp and host 10.255.255.254"
DAMAGED_ROUNDS = 36 if is_full_tier() else 4


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()


def assert_starts(*arguments: str, **env: str) -> None:
    """Assert that it attaches all, and then fails at its ready file."""
    ended = pypwru(*ENDS_ONCE_READY, *arguments, NO_MATCH, env=environment(**env))
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    error = ended.stderr.splitlines()[-1]
    assert error.startswith("pypwru: ") and "ready file" in error, ended.stderr


def test_damaged_cache_is_made_again(tmp_path: Path) -> None:
    """Each entry is damaged in another way; the start is one without a cache."""
    folder, chance = tmp_path / "cache", random.Random(7)
    assert_starts(PYPWRU_CACHE=str(folder))
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(whole) >= 2
    for number in range(DAMAGED_ROUNDS):
        for name, content in whole.items():
            file = folder / name
            file.unlink(missing_ok=True)
            match (number + len(name)) % 4:
                case 0:
                    os.mkfifo(file)
                case 1:
                    file.symlink_to("/dev/zero")
                case _:
                    file.write_bytes(spoilt(content, chance))
        assert_starts(PYPWRU_CACHE=str(folder))
        for name in whole:
            made = Cache(folder).get(name.removesuffix(".pypwru"))
            assert made, f"{name} was not made again"
    assert {path.name for path in folder.iterdir()} >= {*whole}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sample-rate=4294967295", "--rate-limit=4294967295", "--max-hits=4294967295"),
        ("--sample-flow=4294967295", "--stats-interval=4294967295", "--output-text=false"),
        (
            "--output-limit-lines=18446744073709551615", "--netns-names-max-length=255",
            "--output-netns-names", "--filter-mark=4294967295/0xffffffff",
        ),
        (
            "--output-file=out", "--output-file-max-size=9223372036854775807",
            "--output-file-max-backups=9223372036854775807",
            "--output-file-max-age=9223372036854775807", "--output-file-compress",
        ),
        (
            "--output-pcap=out.pcapng", "--pcap-snaplen=262144",
            "--pcap-max-size=18446744073709551615", "--pcap-max-files=18446744073709551615",
        ),
        ("--filter-kprobe-batch=18446744073709551615", "--set-percpu-buf=64", "--output-skb"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_largest_numbers_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with network() as net:
        with tracing(*arguments, f"icmp and host {net.v4(2)}") as run:
            net.ping(net.v4(2))
        assert run.status == 0, run.stderr
        assert "Traceback" not in run.stderr
        assert run.done, run.stderr


def snapshot(folder: Path) -> Mapping[str, object]:
    """Map each path below to inode, mode, owner, time of change, and content."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        times = state.st_mtime_ns, state.st_ctime_ns
        found[str(path)] = (state.st_ino, state.st_mode, state.st_uid, times, content)
    return found


_CHANGE = re.compile(
    r"\b(openat|creat|rename\w*|unlink\w*|mkdir\w*|link\w*|symlink\w*|truncate|f?chmod\w*|"
    r"f?chown\w*|mknod\w*|utime\w*)\((.*)\)\s+= (?:\d|-?1?$)"
)
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
CHANGING = (
    "openat,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,linkat,symlink,"
    "symlinkat,truncate,chmod,fchmodat,chown,fchownat,lchown,mknod,mknodat,utimensat"
)
KERNELS = ("/proc/", "/sys/", "/dev/")
"""Not files on a disk, but interfaces of the kernel."""


def changed(trace: str) -> set[str]:
    """Return files that, by strace -y, were opened for writing, made, moved or removed."""
    found = set()
    for name, arguments in _CHANGE.findall(trace):
        if name == "openat" and not _WRITES.search(arguments):
            continue
        for folder, path in _PATH.findall(arguments):
            found.add(os.path.normpath(os.path.join(folder or "/", path)))
    return {path for path in found if not path.startswith(KERNELS)}


def test_only_named_files_are_written(tmp_path: Path) -> None:
    """Names lead elsewhere, too: entries of the cache are links to files of others."""
    need(shutil.which("strace"), "strace")
    home, cache, outputs = (tmp_path / name for name in ("home", "cache", "outputs"))
    for folder in (home, outputs, tmp_path / "tmp"):
        folder.mkdir()
    assert_starts(PYPWRU_CACHE=str(cache))
    for number, path in enumerate(cache.iterdir()):
        path.unlink()
        (home / f"victim{number}").write_text("another user's")
        path.symlink_to(home / f"victim{number}")
    for name in ("out", "out-2026-01-01T00-00-00.000.gz", "x.pcapng.1", "stats.json.new"):
        (home / name).write_text("another user's")
        if name != "out":
            (outputs / name).symlink_to(home / name)
    before, log = snapshot(home), tmp_path / "strace"
    env = environment(
        PYPWRU_CACHE=str(cache), HOME=str(home), TMPDIR=str(tmp_path / "tmp"),
        XDG_CACHE_HOME=str(home / ".cache"), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    watched = ("strace", "-f", "-y", "-qq", "-s", "4096", "-o", str(log), "-e", CHANGING)
    ended = pypwru(
        *ENDS_ONCE_READY, f"--output-file={outputs}/out", "--output-file-max-age=1",
        f"--output-pcap={outputs}/x.pcapng", "--pcap-max-size=1", "--pcap-max-files=1",
        f"--stats-file={outputs}/stats.json", NO_MATCH, before=watched, env=env,
    )  # fmt: skip
    assert "ready file" in ended.stderr.splitlines()[-1], ended.stderr
    assert snapshot(home) == before
    named = changed(log.read_text())
    assert any(path.startswith(f"{cache}/") for path in named), "strace sees it"
    assert str(outputs / "out") in named
    strange = {
        path for path in named
        if not path.startswith((f"{cache}/", f"{outputs}/", "/nonexistent/")) and path != str(cache)
    }  # fmt: skip
    assert not strange
