"""Compiler of bpf/*.c to bytecode, by BCC without kernel headers. Only this module imports bcc.

It maps LLVM's 200 MB and changes the working directory, so build.py calls it in a child process.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from pypwru.bpf_sources import BPF_DIR, KERNEL_TREE
from pypwru.errors import BuildError

_BCC_SOURCE_VARIABLE = "BCC_KERNEL_SOURCE"
_HANDLER = re.compile(r"^int (\w+)\(void \*ctx\)", re.MULTILINE)
_BCC_MISSING = (
    "BCC is missing: install the package python3-bpfcc, and run pypwru with a Python that sees it "
    "(/usr/bin/python3, or a virtual environment made with --system-site-packages)"
)


def compile_handlers(main: str, layout: str, flags: list[str]) -> dict[str, str]:
    """Compile the handlers of a file. Changes the working directory and ``os.environ``.

    Args:
        main: name of the file in bpf/.
        layout: C text of macros, put before the file's.
        flags: for clang, e.g. ``-DNAME=text``.

    Returns:
        Handler name -> its ``struct bpf_insn[]``, in hexadecimal.

    Raises:
        BuildError: BCC is missing or found an error; ``detail`` has clang's messages.
    """
    try:
        from bcc import BPF
    except ImportError as error:
        raise BuildError(_BCC_MISSING, detail=str(error)) from error
    except OSError as error:  # from the dynamic linker
        raise BuildError(
            f"BCC can't be loaded: {error}", "it takes 300 MB of address space (ulimit -v)"
        ) from error
    os.environ[_BCC_SOURCE_VARIABLE] = str(KERNEL_TREE)
    os.chdir("/")  # clang fails in a deleted working directory; all its paths are absolute
    text = (BPF_DIR / main).read_text()
    try:
        module = BPF(text=f"{layout}{text}".encode(), cflags=[f"-I{BPF_DIR}", *flags])
        names = [name for name in _HANDLER.findall(text) if _has_function(module, name)]
        return {name: module.dump_func(name.encode()).hex() for name in names}
    except Exception as error:  # BCC raises nothing narrower
        messages = _captured_stderr()
        first = next((line for line in messages.splitlines() if "error:" in line), str(error))
        raise BuildError(f"BCC failed to compile {main}: {first}", detail=messages) from error


def _has_function(module: object, name: str) -> bool:
    """Return whether ``module`` has handler ``name``: the text also has those of other backends."""
    try:
        module.dump_func(name.encode())  # type: ignore[attr-defined]
    except Exception:  # BCC raises nothing narrower
        return False
    return True


def _captured_stderr() -> str:
    """Return what clang, inside libbcc, wrote to descriptor 2; in a child that is a memfd."""
    with suppress(OSError):
        return os.pread(2, os.fstat(2).st_size, 0).decode(errors="replace")
    return ""
