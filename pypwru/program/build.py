"""bpf/*.c to bytecode: BCC is the compiler, needs no kernel headers, and is asked once.

What it made is kept (see cache.py) under a key of everything that went in, so a warm start never
maps LLVM's 200 MB. The only importer of bcc.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pypwru.cache import Cache, digest
from pypwru.errors import BuildError
from pypwru.kernel.descriptors import owned
from pypwru.program.source import FOLDER, KERNEL_TREE, MAIN, source_digest

Bytecode = Mapping[str, bytes]

_FOR_BCC = "BCC_KERNEL_SOURCE"
_HANDLER = re.compile(r"^int (\w+)\(void \*ctx\)", re.MULTILINE)
_MISSING = (
    "BCC is missing: install the package python3-bpfcc, and run pypwru with a Python that sees it "
    "(/usr/bin/python3, or a virtual environment made with --system-site-packages)"
)


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


def build(layout: str, defines: Mapping[str, str], cache: Cache, main: str = MAIN) -> Bytecode:
    """Compile the handlers, or find them in the cache.

    Args:
        layout: the text of the layout.
        defines: macros, name -> text.
        cache: where bytecode of earlier runs is.
        main: the file with the handlers.

    Returns:
        Handler name -> its instructions, calls to the filter and maps not yet filled in.

    Raises:
        BuildError: BCC is missing or found an error.
    """
    flags = [f"-D{name}={text}" for name, text in sorted(defines.items())]
    inputs = json.dumps([main, layout, flags, _bcc_version()])
    key = f"bytecode-{digest(inputs.encode(), source_digest())}"

    def make() -> dict[str, str]:
        return {name: code.hex() for name, code in _compile(main, layout, flags).items()}

    return {name: bytes.fromhex(code) for name, code in cache.remembered(key, make).items()}


def _compile(main: str, layout: str, flags: list[str]) -> Bytecode:
    try:
        from bcc import BPF
    except ImportError as error:
        raise BuildError(_MISSING, str(error)) from error
    except OSError as error:  # of the dynamic linker
        raise BuildError(
            f"BCC can't be loaded: {error}; it takes 300 MB of address space (ulimit -v)"
        ) from error
    text = (FOLDER / main).read_text()
    with _Complaints() as complaints, _our_headers(), _some_folder():
        try:
            with BPF(text=f"{layout}{text}".encode(), cflags=[f"-I{FOLDER}", *flags]) as module:
                atexit.unregister(module.cleanup)  # which would keep LLVM's module to the end
                names = [name for name in _HANDLER.findall(text) if _has(module, name)]
                return {name: module.dump_func(name.encode()) for name in names}
        except Exception as error:  # BCC raises nothing narrower
            said = complaints.text()
            first = next((line for line in said.splitlines() if "error:" in line), str(error))
            raise BuildError(f"BCC failed to compile {main}: {first}", said) from error


def _has(module: object, name: str) -> bool:
    """Handlers of another backend are in the text but not in the program."""
    try:
        module.dump_func(name.encode())  # type: ignore[attr-defined]
    except Exception:  # BCC raises nothing narrower
        return False
    return True


@contextmanager
def _our_headers() -> Iterator[None]:
    """Where BCC looks for a kernel's, for now: a script may use BCC for itself, too."""
    before = os.environ.get(_FOR_BCC)
    os.environ[_FOR_BCC] = str(KERNEL_TREE)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FOR_BCC]
        else:
            os.environ[_FOR_BCC] = before


@contextmanager
def _some_folder() -> Iterator[None]:
    """Clang fails in a working directory that is gone; nothing that it reads is relative to one."""
    try:
        os.getcwd()
    except FileNotFoundError:
        with owned(os.open(".", os.O_PATH | os.O_CLOEXEC)) as gone:
            os.chdir("/")
            try:
                yield
            finally:
                os.fchdir(gone)
    else:
        yield


class _Complaints:
    """Catches what clang, inside libbcc, writes to descriptor 2, which may be closed."""

    def __enter__(self) -> _Complaints:
        with suppress(AttributeError, OSError, ValueError):  # none, a full disk, closed
            sys.stderr.flush()
        try:
            self._saved: int | None = os.dup(2)
        except OSError:
            self._saved = None
        self._file = os.memfd_create("clang")  # no folder for temporary files need be there
        os.dup2(self._file, 2)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is None:
            os.close(2)
        else:
            os.dup2(self._saved, 2)
            os.close(self._saved)
        if self._file != 2:
            os.close(self._file)

    def text(self) -> str:
        """What was written so far."""
        size = os.fstat(self._file).st_size
        return os.pread(self._file, size, 0).decode(errors="replace")
