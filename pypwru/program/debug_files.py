"""The files of --debug: what a run generated and loaded, for a bug report.

``layout.h`` and ``macros.h`` are what BCC compiled bpf/trace.bpf.c with, so that clang reads it as
BCC did: ``clang -target bpf -include macros.h -include layout.h -I bpf bpf/trace.bpf.c``. Those of
the files in bpf/nft have the file's name in front: ``nft.layout.h``. ``HANDLER.ebpf`` is the
program as it was loaded, with filters, maps and constants. If the verifier refused a program of
the handler, it is that one's, and ``HANDLER.verifier.log`` has the same positions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.bpf_sources import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.log import Log

_PREFIX = "pypwru-debug-"
_C_SUFFIX = "bpf.c"


class DebugFiles:
    """A folder of files that stays after the run; made by the first ``write``, mode 0700.

    A failure, such as a full disk, is a warning; nothing is written after it.

    Args:
        log: gets the folder's name, or the warning.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._folder: Path | None = None
        self._has_failed = False

    def write(self, name: str, text: str) -> None:
        """Create or replace the file ``name``. Never raises OSError."""
        if self._has_failed:
            return
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
                self._log.debug("Kept the generated files", folder=self._folder)
            (self._folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            self._has_failed = True
            attributes = {"folder": self._folder} if self._folder else {}
            self._log.warn("Debug files are incomplete", **attributes, why=error.strerror)


def keep_unit(
    keep: Callable[[str, str], object], unit: str, layout: str, macros: Mapping[str, str]
) -> None:
    """Keep what a file of bpf/ is compiled with.

    Args:
        keep: gets name and text of each file.
        unit: name of the file in bpf/.
        layout: C text of macros, put before the file's.
        macros: name -> text.
    """
    prefix = "" if unit == MAIN else Path(unit).name.removesuffix(_C_SUFFIX)
    keep(f"{prefix}layout.h", layout)
    definitions = [f"#define {name} {text}\n" for name, text in sorted(macros.items())]
    keep(f"{prefix}macros.h", "".join(definitions))
