"""The initramfs that takes a kernel from power-on to a command: pure assembly of its bytes.

init and run are its scripts; a static busybox runs the first. Their input is under ``lab/``: the
command, the folders to mount, and the files to copy ahead (see ``_mapped_files``).
"""

from __future__ import annotations

import lzma
import os
import re
import shlex
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.vm import packages
from tests.support.paths import TREE

HERE = Path(__file__).parent
# To reach the root: the bus, 9p, the ports, the overlay.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "virtio_console", "overlay")
# Programs that every command maps, and BCC.
_PROGRAMS = ("sh", "mount", "ip", "modprobe", "/usr/bin/python3")
_LIBRARY = "libbcc.so.0"


def initramfs(kernel: Path, command: Sequence[str], shared: Mapping[str, Path]) -> bytes:
    """Return the archive for the unpacked ``kernel``.

    Args:
        kernel: the folder that packages.kernel() returned.
        command: the words to run, with the tree as working directory.
        shared: 9p tag to the folder that it is mounted on, writable.
    """
    (busybox,) = packages.tool("busybox").glob("**/bin/busybox")
    (modules,) = (kernel / "lib" / "modules").iterdir()
    needed = _module_files(kernel, modules.name)
    mapped = [] if "netfs.ko" in needed else _mapped_files()
    files = {
        "init": (HERE / "init").read_bytes(),
        "bin/busybox": busybox.read_bytes(),
        "modules/order": "".join(f"{name}\n" for name in needed).encode(),
        "lab/busybox": busybox.read_bytes(),
        "lab/run": (HERE / "run").read_bytes(),
        "lab/command": _script(command).encode(),
        "lab/modules": f"{modules.parent}\n".encode(),
        "lab/shared": "".join(f"{tag} {path}\n" for tag, path in shared.items()).encode(),
        "lab/mapped": "".join(f"{path}\n" for path in mapped).encode(),
    }
    files |= {f"modules/{name}": content for name, content in needed.items()}
    return _cpio(files)


def _module_files(kernel: Path, version: str) -> dict[str, bytes]:
    """Return the modules to insert, by file name and in order, unpacked."""
    found = {}
    for module in _MODULES:
        shown = packages.output(
            "modprobe", "-d", str(kernel), "-S", version, "--show-depends", module
        )
        for line in shown.splitlines():
            verb, _, path = line.strip().partition(" ")
            if verb == "insmod":
                content = Path(path).read_bytes()
                packed = path.endswith(".xz")
                name = Path(path).name.removesuffix(".xz")
                found[name] = lzma.decompress(content) if packed else content
    return found


def _mapped_files() -> list[Path]:
    """Return the programs and libraries that a guest maps, LLVM above all.

    Before 9p read through netfs, Linux commit eb497943fa21 ("9p: Convert to using the netfs helper
    lib to do reads and caching") (in v5.16), a page fault read one page, while read(2) takes
    half a MiB at a time: LLVM's 105 MiB in 0.2 s in place of 30. So on such a kernel init copies
    these before it mounts the root.
    """
    programs = [path for name in _PROGRAMS if (path := shutil.which(name))]
    known = packages.output("ldconfig", "-p")
    library = re.search(rf"{re.escape(_LIBRARY)} .*=> (\S+)", known)
    roots = programs + ([library[1]] if library else [])
    linked = packages.output("ldd", *roots)
    found = roots + re.findall(r"(/\S+) \(0x", linked)
    return sorted({Path(path).resolve() for path in found})


def _script(command: Sequence[str]) -> str:
    """Return ``command`` as a shell script, with the tools first on PATH and our variables passed
    on.
    """
    tools = [TREE / ".venv" / "bin", packages.tool("pwru") / "usr" / "bin"]
    names = [name for name in os.environ if name.startswith(("PYPWRU_", "PYTEST_"))]
    lines = [f"export {name}={shlex.quote(os.environ[name])}" for name in names]
    lines += [f"PATH={':'.join(shlex.quote(str(tool)) for tool in tools)}:$PATH"]
    lines += [f"cd {shlex.quote(str(TREE))}", f"exec {shlex.join(command)}"]
    return "\n".join(lines) + "\n"


def _cpio(files: Mapping[str, bytes]) -> bytes:
    """Return an archive in the kernel's own format, Documentation/driver-api/early-userspace."""
    folders = sorted({str(parent) for name in files for parent in Path(name).parents})
    entries: list[tuple[str, int, bytes]] = [
        (name, stat.S_IFDIR | 0o755, b"") for name in folders if name != "."
    ]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    entries += [("TRAILER!!!", 0, b"")]
    archive = bytearray()
    for inode, (name, mode, content) in enumerate(entries, 1):
        encoded = name.encode() + b"\0"
        fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        archive += b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
