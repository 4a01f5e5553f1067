"""``make install`` as a packager runs it: below DESTDIR, and readable by every user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.need import need
from tests.support.paths import TREE

pytestmark = [pytest.mark.native, pytest.mark.full]

PREFIX = "/mnt/my tools"
INSTALL = 'umask 077; exec make -C "$1" install DESTDIR="$2" PREFIX="$3"'
USE = '"$0/bin/pypwru" --version; cat "$0"/share/man/man1/pypwru.1'
# As a package's files are unpacked: at PREFIX, in a namespace of mounts that ends with the command.
IN_MOUNT_NAMESPACE = """
mount --bind "$1" /mnt
cd /
exec setpriv --reuid nobody --clear-groups sh -c "$2" "$3"
"""


def test_installed_files_work_at_prefix(tmp_path: Path) -> None:
    need(os.geteuid() == 0 and shutil.which("unshare"), "root and unshare")
    tmp_path = tmp_path / "a folder"
    subprocess.run(
        ["sh", "-c", INSTALL, "sh", str(TREE), str(tmp_path), PREFIX],
        check=True,
        timeout=300,
    )
    shown = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-ec",
            IN_MOUNT_NAMESPACE,
            "sh",
            str(tmp_path / "mnt"),
            USE,
            PREFIX,
        ],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.startswith("pypwru ")
    assert (TREE / "man" / "pypwru.1").read_text() in shown.stdout
    assert not shown.stderr
