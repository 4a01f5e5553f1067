"""The static key that enables the kernel's nft trace events; the kernel's own code is the oracle.

A static key is a patch of the code that tests it (Documentation/staging/static-keys.rst): a BPF
program reads ``nft_do_chain`` as it is at the moment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from pypwru.asm.ebpf import (
    ALU64,
    CALL_HELPER,
    EXIT_PROGRAM,
    LD_IMM64,
    MOV,
    PROBE_READ_KERNEL,
    R0,
    R1,
    R2,
    R3,
    REGISTER,
    Insn,
    pack,
    signed_immediate,
)
from pypwru.errors import KernelError, NoNftables
from pypwru.fds import closing_fd
from pypwru.kernel import bpf
from pypwru.kernel.bpf import MapType, ProgramType
from pypwru.kernel.kallsyms import read_symbols
from pypwru.kernel.netns import run_in_namespace
from pypwru.nft.trace_enable import enable_nft_tracing
from tests.native.tracing import COMMAND, environment
from tests.support.need import need

pytestmark = pytest.mark.native

FUNCTION = "nft_do_chain"
CODE = 1024  # bytes of it
HOLDER = """
import sys
from pypwru.nft.trace_enable import enable_nft_tracing
with enable_nft_tracing() as descriptor:
    print(descriptor, flush=True)
    sys.stdin.read()
"""


def _program(array: int, address: int) -> bytes:
    """Copies CODE bytes at ``address`` to the first value of ``array``."""
    return pack(
        [
            Insn(0x7A, 10, 0, -8, 0),  # *(u64 *)(r10 - 8) = 0
            Insn(LD_IMM64, R1, 1, 0, array),  # BPF_PSEUDO_MAP_FD
            Insn(0),
            Insn(ALU64 | MOV | REGISTER, R2, 10),
            Insn(ALU64, R2, imm=-8),  # r2 += -8
            Insn(CALL_HELPER, imm=1),  # bpf_map_lookup_elem
            Insn(0x55, R0, 0, 1, 0),  # if r0 != 0 skip one
            Insn(EXIT_PROGRAM),
            Insn(ALU64 | MOV | REGISTER, R1, R0),
            Insn(ALU64 | MOV, R2, imm=CODE),
            Insn(LD_IMM64, R3, 0, 0, signed_immediate(address)),
            Insn(0, imm=signed_immediate(address >> 32)),
            Insn(CALL_HELPER, imm=PROBE_READ_KERNEL),
            Insn(EXIT_PROGRAM),
        ]
    )


def _until(fact: Callable[[], bool]) -> None:
    """Poll, a minute at most: the kernel frees a namespace in the background."""
    end = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < end, "the key is still on; does another process hold it?"


class Code:
    """The function's code as the CPUs run it; ``on`` and ``off``: with and without the key."""

    def __init__(self, array: int, program: int) -> None:
        self._array = array
        self._program = program
        with enable_nft_tracing():
            self.on = self.now()
        self.off = b""
        _until(self._find_off)

    def now(self) -> bytes:
        """Return its first bytes."""
        assert bpf.program_test_run(self._program, bytes(64)) == 0
        return bpf.map_lookup(self._array, 0, CODE)

    def _find_off(self) -> bool:
        self.off = self.now()
        # While it is patched, an instruction begins with int3 (text_poke_bp() of the kernel).
        changed = [new for old, new in zip(self.on, self.off, strict=True) if old != new]
        return bool(changed) and 0xCC not in changed

    def wait_off(self) -> None:
        """Wait until the key is off."""
        _until(lambda: self.now() == self.off)


@pytest.fixture
def code() -> Iterator[Code]:
    need(os.geteuid() == 0, "root, to read the kernel's code")
    with enable_nft_tracing():  # which loads nf_tables where that is a module
        symbols = read_symbols()
    found = symbols.addresses(FUNCTION) or symbols.addresses(FUNCTION, "nf_tables")
    need(found, f"a kernel with {FUNCTION}")
    with (
        closing_fd(bpf.map_create(MapType.ARRAY, "code", 4, CODE, 1)) as array,
        closing_fd(
            bpf.program_load(ProgramType.SCHED_CLS, "code", _program(array, found[0]))
        ) as it,
    ):
        yield Code(array, it)


def rulesets() -> dict[str, str]:
    """Return nft's listing of each namespace that lsns lists, with this process's."""
    need(shutil.which("nft"), "nft, of nftables")
    listed = subprocess.run(
        ["lsns", "-t", "net", "-n", "-o", "NS,PID"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in listed.splitlines():
        inode, pid = line.split()
        enter = ["nsenter", "-t", pid, "-n"] if pid.isdigit() and pid != "0" else []
        found[inode] = subprocess.run(
            [*enter, "nft", "-a", "list", "ruleset"], capture_output=True, text=True, check=False
        ).stdout
    return found


def test_key_is_on_inside_context(code: Code) -> None:
    with enable_nft_tracing():
        assert code.now() == code.on
        with enable_nft_tracing():  # the key is counted, each namespace enables it
            assert code.now() == code.on
        assert code.now() == code.on
    code.wait_off()


def test_nftrace_rule_of_nft_sets_same_key(code: Code) -> None:
    need(shutil.which("nft"), "nft, of nftables")
    with enable_nft_tracing() as descriptor:
        listed = run_in_namespace(
            descriptor, lambda: subprocess.check_output(["nft", "list", "ruleset"], text=True)
        )
    code.wait_off()
    rules = "table inet pypwru_key {\n\tchain k {\n\t\tmeta nftrace set 1\n\t}\n}\n"
    assert listed == rules
    script = f"nft -f - <<'RULES'\n{rules}RULES\necho; read _"
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline()
        assert code.now() == code.on
        process.communicate(b"\n")


def test_namespace_is_empty_and_rules_unchanged() -> None:
    need(os.geteuid() == 0, "root, to make network namespaces")
    before = rulesets()
    own = os.readlink("/proc/self/ns/net")
    names = os.listdir("/run/netns") if os.path.exists("/run/netns") else []
    with enable_nft_tracing() as descriptor:
        assert rulesets() == before  # lsns finds namespaces by their processes: ours has none
        there = os.readlink(f"/proc/{os.getpid()}/fd/{descriptor}")
        assert there.startswith("net:[") and there != own
        tasks = os.listdir("/proc/self/task")
        assert {os.readlink(f"/proc/self/task/{task}/ns/net") for task in tasks} == {own}
        assert not os.get_inheritable(descriptor)
        child = subprocess.check_output(["readlink", "/proc/self/ns/net"], text=True)
        assert child.strip() == own
    assert rulesets() == before
    assert (os.listdir("/run/netns") if os.path.exists("/run/netns") else []) == names


def test_key_is_off_after_sigkill(code: Code) -> None:
    with subprocess.Popen(
        [*COMMAND[:1], "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout
        descriptor = process.stdout.readline().strip().decode()
        assert os.readlink(f"/proc/{process.pid}/fd/{descriptor}").startswith("net:[")
        assert code.now() == code.on
        process.kill()
    code.wait_off()


@pytest.mark.parametrize("right", ["sys_admin", "net_admin"])
def test_error_names_missing_capability(right: str) -> None:
    need(os.geteuid() == 0, "root, to give rights away")
    need(shutil.which("setpriv"), "setpriv, of util-linux")
    script = (
        "from pypwru.errors import KernelError\n"
        "from pypwru.nft.trace_enable import enable_nft_tracing\n"
        "try:\n    enable_nft_tracing().__enter__()\n"
        "except KernelError as error:\n    print(type(error).__name__, error)\n"
    )
    found = subprocess.run(
        [
            "setpriv",
            f"--bounding-set=-{right}",
            f"--inh-caps=-{right}",
            sys.executable,
            "-c",
            script,
        ],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    ).stdout
    assert found.startswith("KernelError cannot enable tracing of nftables rules"), found
    assert "Operation not permitted; " in found and f"CAP_{right.upper()}" in found


def test_error_names_namespace_limit() -> None:
    """The limit is that of a user namespace of the test's own: no other process hits it."""
    need(os.geteuid() == 0, "root, to set a limit")
    script = (
        "import sys\n"
        "from pypwru.errors import KernelError\n"
        "from pypwru.nft.trace_enable import enable_nft_tracing\n"
        "open('/proc/sys/user/max_net_namespaces', 'w').write('0')\n"
        "try:\n    enable_nft_tracing().__enter__()\n"
        "except KernelError as error:\n    print(type(error).__name__, error)\n"
    )
    found = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount-proc", "--pid", "--fork",
         sys.executable, "-c", script],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert "No space left on device; " in found.stdout, found.stderr
    assert "user.max_net_namespaces" in found.stdout


@pytest.mark.parametrize("code", [93, 95, 97])
def test_kernel_without_nf_tables_is_error(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPROTONOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT: raised by the test, since this kernel has
    nf_tables.
    """

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("pypwru.nft.trace_enable.run_in_new_namespace", refuse)
    with pytest.raises(NoNftables, match="no nf_tables"), enable_nft_tracing():
        pass
    assert issubclass(NoNftables, KernelError)
