"""Compiles units of bpf/ with the BCC of the user space that it runs in (see compilers.py).

    python3 -m tests.native.compile_units < units.json > bytecode.json

Any Python since 3.9 runs it, from this checkout.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from pypwru.cache import Cache
from pypwru.program.build import build
from pypwru.program.compiler import compile_handlers


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder, "cache"))
        units = json.load(sys.stdin)
        compiled = [build(**unit, cache=cache, compiler=compile_handlers) for unit in units]
    llvm = re.search(r"libLLVM[-.\w]*?(\d+)", Path("/proc/self/maps").read_text())
    programs = [{name: code.hex() for name, code in unit.items()} for unit in compiled]
    json.dump({"llvm": int(llvm[1]) if llvm else 0, "units": programs}, sys.stdout)


if __name__ == "__main__":
    main()
