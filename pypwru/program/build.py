"""bpf/*.c to bytecode: BCC is the compiler, in a child process, and is asked once.

What it made is kept (see cache.py) under a key of everything that went in. So LLVM's 200 MB are
mapped only while a cold start compiles, and never in this process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pypwru.cache import Cache, digest
from pypwru.program.source import MAIN, source_digest

Bytecode = Mapping[str, bytes]
Compile = Callable[[str, str, list[str]], dict[str, str]]


def target() -> str:
    """The TARGET_ macro of this machine's registers."""
    return f"TARGET_{os.uname().machine.upper()}"


def _bcc_version() -> str:
    """What bcc/version.py says, read and not imported: importlib.metadata takes 15 ms to load."""
    for folder in sys.path:
        try:
            return Path(folder or ".", "bcc", "version.py").read_text()
        except OSError:
            continue
    return "none"


def in_child(main: str, layout: str, flags: list[str]) -> dict[str, str]:
    """``compile_handlers`` in a child process.

    Raises:
        BuildError: as of ``compile_handlers``.
        ChildError: there is no child, or it was killed.
    """
    from pypwru.child import child

    with child("pypwru.program.compiler:compile_handlers", main, layout, flags) as compiling:
        bytecode: dict[str, str] = compiling.result()
    return bytecode


def build(
    layout: str,
    defines: Mapping[str, str],
    cache: Cache,
    main: str = MAIN,
    compile: Compile = in_child,
) -> Bytecode:
    """Compile the handlers, or find them in the cache.

    Args:
        layout: the text of the layout.
        defines: macros, name -> text.
        cache: where bytecode of earlier runs is.
        main: the file with the handlers.
        compile: does it, as ``compile_handlers``.

    Returns:
        Handler name -> its instructions, calls to the filter and maps not yet filled in.

    Raises:
        BuildError: BCC is missing or found an error.
        ChildError: as of ``in_child``.
    """
    flags = [f"-D{name}={text}" for name, text in sorted(defines.items())]
    inputs = json.dumps([main, layout, flags, _bcc_version()])
    key = f"bytecode-{digest(inputs.encode(), source_digest())}"
    made = cache.remembered(key, lambda: compile(main, layout, flags))
    return {name: bytes.fromhex(code) for name, code in made.items()}
