"""One QEMU process: a Debian kernel on this machine's file system, running one command.

No KVM: stock kernels hang under some nested hypervisors, and the lab must give the same everywhere.
No init system either: an initramfs of our own (init, run, the few modules that reach the root) goes
from power-on to the command in seconds and brings the command's standard output, standard error and
exit status back as they come, on virtio ports whose other ends are pipes here. The initramfs is in
a memfd and the ports are inherited pipes, so a run leaves no file behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.lab.vm import image, packages
from tests.lab.vm.packages import LabError

HUNG = 124  # as of timeout(1)
BOOTING = 600.0  # seconds from power-on to the command, after which a guest is given up
STARTED = b"started\n"  # run writes it on the port of the status before the command
_PORTS = ("out", "err", "status", "console")
_ROOT = "machine"  # the 9p tag that init mounts
_PR_SET_PDEATHSIG = 1
# Without what is slow under emulation: "rep" instructions of one byte a step, which kernels use to
# clear pages, a fifth level of page tables, vector registers of 32 bytes, access checks. They do
# clear pages: in memory that isn't cleared, pwru sees packets of before (tests/lab/test_parity.py).
_CPU = "max,-erms,-la57,-avx,-avx2,-xsave,-smap,-smep,-umip,-pku"


@dataclass(frozen=True)
class Guest:
    """A boot, and the command that runs in it.

    Args:
        kernel: one of packages.KERNELS.
        command: the words of the command, run as root with the tree as working directory.
        shared: folders of this machine that the guest may write, under the same path.
        cpus: virtual CPUs.
        memory: MiB of RAM, the layer over the root included.
        timeout: seconds that the command may take until the guest is killed.
    """

    kernel: str
    command: Sequence[str]
    shared: Sequence[Path] = ()
    cpus: int = 2
    memory: int = 3072
    timeout: float = 600.0


@dataclass
class _Received:
    """Output of the guest beside its command's."""

    status: bytearray = field(default_factory=bytearray)
    console: bytearray = field(default_factory=bytearray)

    @property
    def exit_status(self) -> int | None:
        """The command's; None until it is here whole."""
        whole = self.status.startswith(STARTED) and self.status.count(b"\n") == 2
        return int(self.status[len(STARTED) :]) if whole else None


def run(guest: Guest, stdout: int = 1, stderr: int = 2) -> tuple[int, str]:
    """Boot ``guest`` and copy its command's output to the descriptors ``stdout`` and ``stderr``.

    Returns:
        The command's exit status and an empty string; or HUNG and, in a few lines, why there is no
        status: the time was up, or the guest died.

    Raises:
        LabError: the kernel can't be fetched, or QEMU is missing.
        BrokenPipeError: the reader of ``stdout`` or ``stderr`` is gone. So is the guest.
    """
    kernel = packages.kernel(guest.kernel)
    tags = {tag: path for tag, path, _ in _exports(guest) if tag != _ROOT}
    initramfs = image.initramfs(kernel, guest.command, tags)
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(open(os.memfd_create("initramfs"), "wb"))
        memory.write(initramfs)
        memory.flush()
        readers, writers = {}, {}
        for port in _PORTS:
            ends = os.pipe()
            readers[port] = stack.enter_context(open(ends[0], "rb", buffering=0))
            writers[port] = stack.enter_context(open(ends[1], "wb", buffering=0))
        command = _qemu(guest, kernel, memory.fileno(), {p: w.fileno() for p, w in writers.items()})
        inherited = [memory.fileno(), *(writer.fileno() for writer in writers.values())]
        stack.enter_context(_running(command, inherited))
        for writer in writers.values():
            writer.close()
        received = _Received()
        reason = _relay(readers, received, {"out": stdout, "err": stderr}, guest.timeout)
    if received.exit_status is not None:
        return received.exit_status, ""
    last = received.console.decode(errors="replace").splitlines()[-80:]  # a panic and its trace
    return HUNG, "\n".join([f"{reason}; its console's last lines:", *last])


def btf(kernel: str) -> Path:
    """Return the file of ``kernel``'s type information (/sys/kernel/btf/vmlinux), kept after a
    first boot.
    """
    path = packages.folder() / "btf" / kernel
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-") as file:
            status, reason = run(Guest(kernel, ["cat", "/sys/kernel/btf/vmlinux"]), file.fileno())
            if status:
                raise LabError(f"no BTF from {kernel}: {reason or f'cat ended with {status}'}")
            with contextlib.suppress(FileExistsError):  # another boot was as quick
                os.link(file.name, path)
    return path


def _relay(
    readers: Mapping[str, IO[bytes]], received: _Received, copies: Mapping[str, int], timeout: float
) -> str:
    """Copy until the status is here or can't come any more; return why not.

    Args:
        timeout: seconds for the command, from the moment at which the guest starts it.
    """
    deadline, started = time.monotonic() + BOOTING, False
    sinks = {"status": received.status, "console": received.console}
    with selectors.DefaultSelector() as selector:
        for port, reader in readers.items():
            selector.register(reader, selectors.EVENT_READ, port)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(max(left, 0))
            if not ready and left <= 0:
                return "the guest was stopped when its time was up"
            # The status is sent when the rest has arrived: it is looked at last.
            for key, _ in sorted(ready, key=lambda item: item[0].data == "status"):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.data in copies:
                    _write(copies[key.data], chunk)
                else:
                    sinks[key.data] += chunk
            if not started and received.status.startswith(STARTED):
                deadline, started = time.monotonic() + timeout, True
            if received.exit_status is not None and not _pending(readers):
                return ""
    return "the guest died"


def _pending(readers: Mapping[str, IO[bytes]]) -> bool:
    outputs = [readers["out"], readers["err"]]
    return any(True for ready in select.select(outputs, [], [], 0) for _ in ready)


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _running(command: Sequence[str], inherited: Sequence[int]) -> Iterator[None]:
    """Run QEMU; it ends with this block and, by PR_SET_PDEATHSIG, with this process."""
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=inherited,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise LabError(f"no {command[0]}: install the package qemu-system-x86") from error
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _qemu(guest: Guest, kernel: Path, initramfs: int, ports: Mapping[str, int]) -> list[str]:
    image = next(path for path in kernel.rglob("vmlinuz*") if path.is_file())
    # One thread for all virtual CPUs: with one each, a CPU can run an int3 that another has already
    # patched away, and the guest dies of it at boot or while ftrace patches functions.
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", _CPU]
    command += ["-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot"]
    command += ["-display", "none", "-smp", str(guest.cpus), "-m", str(guest.memory)]
    command += ["-kernel", str(image), "-initrd", f"/proc/self/fd/{initramfs}"]
    kernel_words = "console=ttyS0 loglevel=4 panic=-1 mitigations=off tsc=reliable"
    command += ["-append", kernel_words]
    for tag, path, readonly in _exports(guest):
        export = f"local,path={_quoted(path)},mount_tag={tag},security_model=none,multidevs=remap"
        command += ["-virtfs", export + (",readonly=on" if readonly else "")]
    command += ["-device", "virtio-serial-pci"]
    for port, descriptor in ports.items():
        command += ["-chardev", f"file,id={port},path=/proc/self/fd/{descriptor}"]
        if port == "console":
            command += ["-serial", f"chardev:{port}"]
        else:
            command += ["-device", f"virtserialport,chardev={port},name={port}"]
    return command


def _exports(guest: Guest) -> Iterator[tuple[str, Path, bool]]:
    """Yield the folders of this machine that the guest mounts: (9p tag, folder, whether
    read-only).
    """
    yield _ROOT, Path("/"), True
    for number, path in enumerate(guest.shared):
        yield f"shared{number}", path, False


def _quoted(path: Path) -> str:
    """Return ``path`` in QEMU's option syntax, where a comma is written twice."""
    return str(path).replace(",", ",,")
