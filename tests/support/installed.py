"""The completions as they are installed, below a user's home."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.paths import TREE

LOADER = Path("/usr/share/bash-completion/bash_completion")
SYSTEM = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# It logs its arguments, so that a test sees when a shell runs it.
PROGRAM = """#!/bin/sh
echo "$@" >>"$HOME/calls"
printf '%s\\n' ip_rcv ip_output ip_local_out 'nft_do_chain[nf_tables]' tcp_v4_rcv tp:kfree_skb
"""


def setup(shell: str) -> str:
    """Return what loads the completions as installed packages do: by name, from their folder."""
    if shell == "bash":
        return f". {LOADER}"
    return "fpath=($HOME/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u"


def install(home: Path) -> None:
    """Install completions below HOME/share as ``make install`` does below PREFIX, and a pypwru."""
    for source, place in (
        ("pypwru.bash", "bash-completion/completions"),
        ("_pypwru", "zsh/site-functions"),
    ):
        (home / "share" / place).mkdir(parents=True)
        shutil.copy(TREE / "completions" / source, home / "share" / place)
    for name in ("list.json", "my list"):
        (home / name).touch()
    (home / "bin").mkdir()
    (home / "bin" / "pypwru").write_text(PROGRAM)
    (home / "bin" / "pypwru").chmod(0o755)


def environment(home: Path, path: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": path, "XDG_DATA_DIRS": f"{home}/share"}
