"""Compilation of bpf/*.c to bytecode, by BCC in a child process, with a cache.

The cache key (see cache.py) covers all inputs. So LLVM's 200 MB are mapped only while a cold start
compiles, and never in this process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pypwru.bpf_sources import MAIN, source_digest
from pypwru.cache import Cache, digest

Bytecode = Mapping[str, bytes]
Compiler = Callable[[str, str, list[str]], dict[str, str]]


def target_macro() -> str:
    """Return the ``TARGET_*`` macro that selects this machine's registers in bpf/registers.h."""
    return f"TARGET_{os.uname().machine.upper()}"


def _bcc_version() -> str:
    """Return the text of bcc/version.py; importing bcc or importlib.metadata is slow (15 ms)."""
    for folder in sys.path:
        try:
            return Path(folder or ".", "bcc", "version.py").read_text()
        except OSError:
            continue
    return "none"


def compile_in_child(main: str, layout: str, flags: list[str]) -> dict[str, str]:
    """Run ``compile_handlers`` in a child process.

    Args:
        main: name of the file in bpf/.
        layout: C text of macros, put before the file's.
        flags: for clang, e.g. ``-DNAME=text``.

    Returns:
        As of ``compile_handlers``.

    Raises:
        BuildError: as of ``compile_handlers``.
        ChildError: the child could not be started, or was killed.
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
    compiler: Compiler = compile_in_child,
) -> Bytecode:
    """Compile the handlers of a file, or read them from the cache.

    Args:
        layout: C text of macros, from ``layout.build_layout``.
        defines: macro name -> text.
        cache: bytecode of earlier runs; the result is added.
        main: name of the file in bpf/.
        compiler: function with the signature of ``compile_handlers``.

    Returns:
        Handler name -> ``struct bpf_insn[]``; filters, maps and constants are not yet filled in.

    Raises:
        BuildError: BCC is missing or found an error.
        ChildError: as of ``compile_in_child``.
    """
    flags = [f"-D{name}={text}" for name, text in sorted(defines.items())]
    inputs = json.dumps([main, layout, flags, _bcc_version()])
    key = f"bytecode-{digest(inputs.encode(), source_digest())}"
    compiled = cache.get_or_make(key, lambda: compiler(main, layout, flags))
    return {name: bytes.fromhex(code) for name, code in compiled.items()}
