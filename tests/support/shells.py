"""An interactive bash or zsh on its own terminal, for typed text and the TAB key."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS = 20.0
"""Timeout of a shell without output; no passing test waits for it."""
COMMANDS: Mapping[str, Sequence[str]] = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
# Lists are printed at the first TAB, whole, and C-t prints the line; the prompt is the test's.
SETTINGS = {
    "bash": r"""
bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'; bind 'set bell-style none'
bind 'set enable-bracketed-paste off'; bind 'set completion-query-items 0'
bind -x '"\C-t": printf "<%s>\n" "$READLINE_LINE"'; PS1='@ '
""",
    "zsh": r"""
unsetopt list_ambiguous list_beep beep prompt_cr prompt_sp; unset zle_bracketed_paste
shown() { print -r -- "<$BUFFER>"; }; zle -N shown; bindkey '^T' shown; LISTMAX=100000 PROMPT='@ '
""",
}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|.\x08|[\x00\x07]")


class Completion(NamedTuple):
    """The result of TAB.

    Args:
        line: the line then.
        listed: the matches, where there are several.
        output: all that was printed.
        seconds: duration.
    """

    line: str
    listed: set[str]
    output: str
    seconds: float


class Shell:
    """An interactive shell; ``setup`` is typed first, ``environment`` replaces this one."""

    def __init__(self, name: str, setup: str, environment: Mapping[str, str], cwd: Path) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 50, 150, 0, 0))
        self._terminal = master
        self._process = subprocess.Popen(
            COMMANDS[name],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={"TERM": "dumb", "LC_ALL": "C.UTF-8", **environment},
            start_new_session=True,
        )
        os.close(slave)
        settings = cwd / "settings"
        settings.write_text(f"{SETTINGS[name]}\n{setup}\n")
        self._type(f". {settings}; echo 're''ady'\n")
        self._until(r"ready\s.*@ ")

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def tab(self, typed: str) -> Completion:
        """Type ``typed``, press TAB, and clear the line again."""
        began = time.monotonic()
        self._type(f"{typed}\t\x14")
        output = self._until(r"<[^\n]*>\r\n")
        seconds = time.monotonic() - began
        self._type("\x05\x15")  # to the end, and away with the line
        clean = _CONTROL.sub("", output)
        before, _, line = clean.rpartition("<")
        shown = [text for text in before.split("\n")[1:] if not text.startswith("@ ")]
        return Completion(line.split(">")[0], set(" ".join(shown).split()), clean, seconds)

    def _type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def _until(self, end: str) -> str:
        """Return the output up to a match of the regular expression ``end``."""
        output, last = "", time.monotonic() + SECONDS
        while not re.search(end, output, re.DOTALL):
            if not select.select([self._terminal], [], [], max(last - time.monotonic(), 0))[0]:
                raise TimeoutError(f"no {end!r} in {output!r}")
            output += os.read(self._terminal, 1 << 16).decode(errors="replace")
        return output
