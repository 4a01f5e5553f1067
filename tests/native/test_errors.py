"""Every error of a start, provoked: one line with the cause and the cure.

Longer than 300 lines because it is a list: a test for each error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.fds import closing_fd
from pypwru.kernel import bpf_info
from pypwru.kernel.lockdown import Lockdown
from pypwru.kernel.lockdown import level as lockdown_level
from tests.native.tracing import (
    COMMAND,
    TIMEOUT,
    environment,
    need_tracing,
    pypwru,
    tracing,
)
from tests.support.need import need
from tests.unit.discovery.test_functions import Kernel

pytestmark = pytest.mark.native

Ended = subprocess.CompletedProcess[str]
UNPRIVILEGED = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
BY_TRACEPOINT = "--backend=tracepoint"
MEMORY_CGROUPS = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup", "/sys/fs/cgroup/unified")


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()


def only_error(ended: Ended, status: int = 1) -> str:
    """Return the one line of a run that failed before it logged anything."""
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("pypwru: ")
    return ended.stderr.rstrip("\n")


def last_error(ended: Ended) -> str:
    """Return the one line of a run that had begun to log."""
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    *log, error = ended.stderr.splitlines()
    assert all(" INFO " in line for line in log), ended.stderr
    assert error.startswith("pypwru: ")
    return error


def only_or_last_error(ended: Ended) -> str:
    """Return the one line of a run, whether it had begun to log or not."""
    return last_error(ended) if " INFO " in ended.stderr else only_error(ended)


# Rights


def test_unprivileged_user_is_error() -> None:
    need(shutil.which("setpriv"), "setpriv, of util-linux")
    readable = subprocess.run(
        [*UNPRIVILEGED, *COMMAND, "--version"], env=environment(), capture_output=True, check=False
    )
    need(readable.returncode == 0, "a checkout that nobody can read")
    message = only_error(pypwru("icmp", before=UNPRIVILEGED))
    for name in ("CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG", "sudo pypwru"):
        assert name in message


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        ("-bpf,-sys_admin", ["CAP_BPF"]),
        ("-perfmon,-sys_admin", ["CAP_PERFMON"]),
        ("-syslog", ["CAP_SYSLOG"]),
        ("-all", ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"]),
    ],
)
def test_missing_capabilities_are_error(dropped: str, named: list[str]) -> None:
    message = only_error(pypwru(BY_TRACEPOINT, before=("setpriv", f"--bounding-set={dropped}")))
    assert [one for one in ("CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG") if one in message] == named
    assert "run it as root of the host: sudo pypwru" in message


def test_root_of_user_namespace_is_error() -> None:
    message = only_error(pypwru(BY_TRACEPOINT, before=("unshare", "--user", "--map-root-user")))
    assert "CAP_BPF" in message and "root of the host" in message


# Kernel


def _has_kprobes() -> bool:
    return any(
        Path(folder, "kprobe_events").exists()
        for folder in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
    )


@pytest.mark.parametrize("backend", ["kprobe", "kprobe-multi", "fentry", "fentry-multi"])
def test_unsupported_backend_is_error(backend: str) -> None:
    """A kernel without kprobes, or locked down; where they work there is no error."""
    if _has_kprobes() and lockdown_level() in (Lockdown.NONE, Lockdown.UNKNOWN):
        pytest.skip("this kernel allows kprobes: the lab provokes their errors")
    message = only_error(pypwru(f"--backend={backend}", "icmp"))
    assert "backend" in message
    assert "CONFIG_" in message or "lockdown" in message


def test_automatic_backend_logs_why_not_others(tmp_path: Path) -> None:
    if _has_kprobes():
        pytest.skip("this kernel allows kprobes: its choice needs no excuse")
    words = ("--ready-file=/nonexistent/folder/ready", "icmp and host 10.255.255.254")
    ended = pypwru("--debug", *words, env=environment(TMPDIR=str(tmp_path)))
    selected, why = (line for line in ended.stderr.splitlines() if "Chose backend" in line)
    assert selected.endswith("INFO Chose backend backend=tracepoint")
    for backend in ("fentry-multi", "kprobe-multi", "fentry", "kprobe"):
        assert f"no {backend}: " in why
    assert "no kprobe: " not in pypwru(*words).stderr


def test_kernel_without_btf_is_error() -> None:
    script = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    ended = pypwru(BY_TRACEPOINT, before=("unshare", "--mount", "sh", "-c", script, "sh"))
    message = only_error(ended)
    assert "no BTF of the kernel" in message
    assert "CONFIG_DEBUG_INFO_BTF=y" in message and "--kernel-btf FILE" in message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nonexistent", "No such file or directory"),
        ("/etc", "Is a directory"),
        ("/etc/passwd", "not BTF"),
        ("/dev/null", "BTF"),
        ("/bin/true", "ELF without a .BTF section"),
    ],
)
def test_kernel_btf_of_no_btf_is_error(path: str, words: str) -> None:
    message = only_error(pypwru(BY_TRACEPOINT, f"--kernel-btf={path}"))
    assert path in message and words in message
    assert "--kernel-btf" in message, "the cure"


def test_kernel_btf_of_other_kernel_is_error(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.function("ip_rcv", kernel.skb)
    other = tmp_path / "btf"
    other.write_bytes(kernel.encoder.bytes())
    message = only_error(pypwru(BY_TRACEPOINT, f"--kernel-btf={other}"))
    assert f"{other} is not of the running kernel" in message and "leave it out" in message


def test_kernel_btf_of_running_kernel_is_used(tmp_path: Path) -> None:
    own = tmp_path / "btf"
    own.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    with tracing(f"--kernel-btf={own}", "icmp and host 10.255.255.254") as run:
        pass
    assert run.status == 0, run.stderr


def test_module_without_btf_is_error() -> None:
    message = only_error(pypwru(BY_TRACEPOINT, "--kmods=no_such_module"))
    assert "'no_such_module'" in message and "modprobe" in message


# BCC


def test_missing_bcc_is_error(tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise ImportError('not installed')\n")
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    message = only_error(pypwru(BY_TRACEPOINT, env=env))
    assert "BCC is missing" in message and "python3-bpfcc" in message


def test_failed_compile_is_error(tmp_path: Path) -> None:
    """BCC raises; clang's messages are logged by --debug."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text(
        "import os\n"
        "def BPF(**options):\n"
        "    os.write(2, b'a.c:1:1: warning: w\\na.c:2:1: error: no such thing\\n1 error\\n')\n"
        "    raise Exception('Failed to compile BPF module <text>')\n"
    )
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    message = only_error(pypwru(BY_TRACEPOINT, env=env))
    assert message.endswith("BCC failed to compile trace.bpf.c: a.c:2:1: error: no such thing")
    debug_run = pypwru(BY_TRACEPOINT, "--debug", env={**env, "TMPDIR": str(tmp_path)})
    assert "warning: w" in debug_run.stderr
    assert debug_run.stderr.splitlines()[-1] == message


# Arguments


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("icmp andd", "syntax error"),
        ("tcp port 99999", "illegal port number 99999 > 65535"),
        ("host 1.2.3.4.5", "'1.2.3.4.5'"),
        ("gateway nosuch", "gateway"),
        ("type mgt", "802.11"),
    ],
)
def test_invalid_filter_has_message_of_libpcap(expression: str, words: str) -> None:
    message = only_error(pypwru(BY_TRACEPOINT, expression))
    assert expression in message and words in message


def test_unknown_function_is_error() -> None:
    message = only_error(pypwru(BY_TRACEPOINT, "--filter-func=kfree_skbb"))
    assert "'kfree_skbb'" in message and "did you mean kfree_skb?" in message


def test_invalid_function_pattern_is_error() -> None:
    message = only_error(pypwru(BY_TRACEPOINT, "--filter-func=netif_("))
    assert "missing closing )" in message


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--backend=uprobe", "fentry, kprobe"),
        ("--priority=4", "0 to 3"),
        ("--buffer-size=5000", "power of two"),
        ("--timestamp=noon", "none, current, relative, absolute"),
        ("--no-such-flag", "unknown flag: --no-such-flag"),
        ("--output-limit-lines=-1", "-1"),
    ],
)
def test_usage_error_is_that_of_pflag(argument: str, words: str) -> None:
    """The message is pflag's, below a hint."""
    ended = pypwru(argument)
    assert (ended.returncode, ended.stdout) == (2, "")
    hint, error = ended.stderr.splitlines()
    assert hint and words in error


def test_unknown_category_is_error() -> None:
    assert "take one of" in only_error(pypwru("--category=nope"), status=2)


# Memory


def test_ring_beyond_memory_is_error() -> None:
    """A memory cgroup, as a container has one, is smaller than the ring."""
    with memory_cgroup(256 << 20) as folder:
        script = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        ended = pypwru(BY_TRACEPOINT, "--buffer-size=1G", before=("sh", "-c", script, str(folder)))
    message = only_error(ended)
    assert "ring buffer of 1073741824 bytes: Cannot allocate memory" in message
    assert "smaller --buffer-size" in message


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """Make a group of version 1 or 2; at most ``limit`` bytes are charged to it."""
    for parent in map(Path, MEMORY_CGROUPS):
        folder = parent / f"pypwru-test-{os.getpid()}"
        for file in ("memory.limit_in_bytes", "memory.max"):
            try:
                folder.mkdir(exist_ok=True)
                (folder / file).write_text(str(limit))
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                continue
            try:
                yield folder
            finally:
                _remove(folder)
            return
    need(False, "a memory cgroup that can be written")


def _remove(group: Path) -> None:
    """Remove it; its last process has been waited for, and may still be leaving it."""
    deadline = time.monotonic() + TIMEOUT
    while group.exists():
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise


def test_ring_beyond_address_space_is_error() -> None:
    need(shutil.which("prlimit"), "prlimit, of util-linux")
    ended = pypwru(BY_TRACEPOINT, "--buffer-size=1G", before=("prlimit", f"--as={1 << 30}"))
    message = only_error(ended)
    assert "map a ring buffer of 1073741824 bytes: Cannot allocate memory" in message
    assert "smaller --buffer-size" in message


# Nothing attached


@pytest.mark.parametrize("limit", range(7, 58, 3))
def test_too_few_descriptors_is_error(limit: int) -> None:
    """Each failure of a map, program or link is an error, and no trace goes on without one."""
    need(shutil.which("prlimit"), "prlimit, of util-linux")
    message = only_or_last_error(pypwru(BY_TRACEPOINT, before=("prlimit", f"--nofile={limit}")))
    assert f"raise the limit of {limit} open files" in message


REFUSING = """
import errno, os, sys
from pypwru.kernel import bpf
def refuse(*_):
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
bpf.raw_tracepoint_open = refuse
from pypwru.cli.main import main
sys.exit(main())
"""


def test_failed_attach_of_all_is_error() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REFUSING, BY_TRACEPOINT],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=TIMEOUT,
        check=False,
    )
    assert "Device or resource busy" in last_error(ended)
    assert "Listening" not in ended.stderr


# Outputs


@pytest.mark.parametrize("path", ["/proc/nosuch/trace", "/etc/passwd/trace", "/sys/kernel"])
def test_unwritable_output_file_is_first_error(path: str) -> None:
    message = only_error(pypwru(BY_TRACEPOINT, f"--output-file={path}"))
    assert path in message and "choose another --output-file" in message


def test_ready_file_in_missing_folder_is_error(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "ready"
    message = last_error(pypwru(BY_TRACEPOINT, f"--ready-file={path}"))
    assert str(path) in message and "choose another --ready-file" in message


def test_full_disk_is_error() -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, BY_TRACEPOINT],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            timeout=TIMEOUT,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "pypwru: can't write standard output: No space left on device: free some space"
    )
    assert "Traceback" not in ended.stderr


def test_closed_stdout_is_error() -> None:
    message = only_error(pypwru(BY_TRACEPOINT, before=("sh", "-c", 'exec "$@" >&-', "sh")))
    assert "standard output is closed" in message and "--output-file" in message


# Signals during the start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_compile_ends_start(tmp_path: Path, number: int) -> None:
    """The compile can't be stopped: the signal takes effect right after it, quietly.

    The whole group gets it, as from a terminal: the process that compiles, too.
    """
    (tmp_path / "bcc").mkdir()
    pause = tmp_path / "compiling"
    go = tmp_path / "go"
    os.mkfifo(pause)
    os.mkfifo(go)
    (tmp_path / "bcc" / "__init__.py").write_text(
        "import importlib, sys\n"
        f"sys.path.remove({str(tmp_path)!r})\n"
        f"open({str(pause)!r}, 'w').close()\n"
        f"open({str(go)!r}).close()\n"
        "del sys.modules['bcc']\n"
        "importlib.import_module('bcc')\n"
    )
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    process = subprocess.Popen(
        [*COMMAND, BY_TRACEPOINT, "icmp and host 10.255.255.254"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
        start_new_session=True,
    )
    pause.open().close()  # it is importing bcc
    os.killpg(process.pid, number)
    go.open("w").close()
    _, log_text = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log_text
    assert "Traceback" not in log_text and "Received signal" in log_text


def test_second_signal_during_compile_kills(tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    pause = tmp_path / "compiling"
    os.mkfifo(pause)
    (tmp_path / "bcc" / "__init__.py").write_text(
        f"import time\nopen({str(pause)!r}, 'w').close()\ntime.sleep(600)\n"
    )
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    process = subprocess.Popen(
        [*COMMAND, BY_TRACEPOINT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
    )
    pause.open().close()
    process.send_signal(signal.SIGINT)
    for _ in range(10 * TIMEOUT):  # right behind the first they are one stop request
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            break
        process.send_signal(signal.SIGTERM)
    out, log_text = process.communicate(timeout=TIMEOUT)
    # Or by one more that came while it left.
    assert process.returncode in (130, -signal.SIGTERM)
    assert "Traceback" not in log_text
    assert out == ""


def test_error_leaves_nothing_attached() -> None:
    """The kernel frees what a failed run attached soon after the process."""
    earlier = _orphans()
    pypwru(BY_TRACEPOINT, "--ready-file=/nonexistent/folder/ready")
    with tracing("icmp and host 10.255.255.254") as run:
        ours = _open_programs(run.process.pid) & _handlers()
        assert ours
    deadline = time.monotonic() + TIMEOUT
    while ours & _handlers() or _orphans() - earlier:
        assert time.monotonic() < deadline, "programs are still loaded"


def _handlers() -> set[int]:
    """Return ids of pypwru's loaded programs, of any process."""
    found = set()
    for program_id in bpf_info.program_ids():
        program = bpf_info.program_open(program_id)
        if program is not None:
            with closing_fd(program):
                if bpf_info.program_info(program).name.startswith("trace_skb"):
                    found.add(program_id)
    return found


def _open_programs(process: int | str) -> set[int]:
    """Return ids of the programs that a process has open, itself or by a link."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it ended
        for file in Path(f"/proc/{process}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                found.update(map(int, re.findall(r"^prog_id:\s+(\d+)$", file.read_text(), re.M)))
    return found


def _orphans() -> set[int]:
    """Return ``_handlers`` that no process has open: other tests may run pypwru now, too."""
    handlers = _handlers()
    for process in filter(str.isdigit, os.listdir("/proc")):
        handlers -= _open_programs(process)
    return handlers


# Limits of the machine, and what is gone


def _limited(words: str, *arguments: str, **env: str) -> Ended:
    """Run in a shell that has set a limit."""
    before = ("sh", "-c", f'{words}; exec "$@"', "sh")
    return pypwru(BY_TRACEPOINT, *arguments, before=before, env=environment(**env))


def _one_line(ended: Ended) -> str:
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("pypwru: "), ended.stderr
    return ended.stderr.splitlines()[-1]


ENDS_ONCE_READY = "--ready-file=/nonexistent/folder/ready"


@pytest.mark.parametrize("kilobytes", [60_000, 120_000, 200_000])
def test_address_space_limit_is_error(tmp_path: Path, kilobytes: int) -> None:
    cache = str(tmp_path / "cache")
    cold = _limited(f"ulimit -v {kilobytes}", ENDS_ONCE_READY, PYPWRU_CACHE=cache)
    assert "ulimit -v" in _one_line(cold)
    pypwru(BY_TRACEPOINT, ENDS_ONCE_READY, env=environment(PYPWRU_CACHE=cache))
    warm = _limited(f"ulimit -v {kilobytes}", ENDS_ONCE_READY, PYPWRU_CACHE=cache)
    line = _one_line(warm)
    assert "ulimit -v" in line or "ready file" in line


@pytest.mark.parametrize("limit", [12, 16, 24, 40, 60])
def test_descriptor_limit_is_error(limit: int) -> None:
    line = _one_line(_limited(f"ulimit -n {limit}", ENDS_ONCE_READY))
    assert "ulimit -n" in line or "ready file" in line
    assert "CAP_" not in line


def test_start_without_temporary_folder() -> None:
    """A cold start needs none, and so a killed compile leaves nothing there."""
    mounts = (
        "for folder in /tmp /var/tmp /usr/tmp /dev/shm; do "
        "mount --bind $folder $folder && mount -o remount,bind,ro $folder; done 2>/dev/null"
    )
    script = f'{mounts}; ! touch /tmp/x 2>/dev/null && cd / && exec "$@"'
    ended = pypwru(
        BY_TRACEPOINT, ENDS_ONCE_READY,
        before=("unshare", "--mount", "sh", "-c", script, "sh"),
        env=environment(PYPWRU_CACHE="/proc/cache", TMPDIR="/nonexistent"),
    )  # fmt: skip
    assert "ready file" in _one_line(ended)
    assert "No cache" in ended.stderr


def test_removed_working_directory(tmp_path: Path) -> None:
    gone = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone"
    ended = _limited(gone, ENDS_ONCE_READY, PYPWRU_CACHE=str(tmp_path / "cache"))
    assert "ready file" in _one_line(ended)


def test_closed_stderr(tmp_path: Path) -> None:
    """A cold start compiles all the same, and the result is in the exit status."""
    cache = tmp_path / "cache"
    ended = _limited("exec 2>&-", ENDS_ONCE_READY, PYPWRU_CACHE=str(cache))
    assert ended.returncode == 1 and ended.stderr == ""
    assert any(path.name.startswith("bytecode") for path in cache.iterdir())


def test_user_without_name_and_home(tmp_path: Path) -> None:
    nameless = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    env = {name: value for name, value in environment().items() if name not in ("HOME", "USER")}
    for name in ("PYPWRU_CACHE", "XDG_CACHE_HOME"):
        env.pop(name, None)
    readable = subprocess.run(
        [*nameless, *COMMAND, "--version"], env=env, capture_output=True, check=False
    )
    need(readable.returncode == 0, "a checkout that nobody can read")
    ended = pypwru("--function-list=-", before=nameless, env=env)
    assert ended.returncode == 0, ended.stderr
    assert "PYPWRU_CACHE" in ended.stderr and "ip_rcv" in ended.stdout


# Outputs


@pytest.mark.parametrize(
    ("arguments", "redirections"),
    [
        (("--output-pcap=x.pcapng", "--output-file=link"), ""),
        (("--output-pcap=x.pcapng",), ">x.pcapng"),
        (("--output-pcap=x.pcapng",), "2>x.pcapng"),
        (("--output-pcap=-", "--output-file=/dev/stdout"), "| cat"),
        (("--output-pcap=-",), "2>&1 | cat"),
        (("--stats", "--stats-file=/dev/stdout"), ">stats"),
        (("--stats", "--stats-file=stats", "--output-file=./stats"), ""),
        (("--ready-file=link", "--output-pcap=x.pcapng"), ""),
    ],
    ids=lambda words: words if isinstance(words, str) else " ".join(words),
)
def test_two_outputs_to_one_file_are_error(
    tmp_path: Path, arguments: tuple[str, ...], redirections: str
) -> None:
    (tmp_path / "link").symlink_to("x.pcapng")
    script = f'cd {tmp_path} && {{ "$@"; echo "status $?" >status; }} {redirections}'
    ended = pypwru(
        BY_TRACEPOINT, *arguments, "icmp and host 10.255.255.254",
        before=("sh", "-c", script, "sh", "timeout", "-s", "INT", "30"),
    )  # fmt: skip
    assert (tmp_path / "status").read_text() == "status 2\n"
    output = ended.stdout + ended.stderr
    output += "".join(
        (tmp_path / name).read_text() for name in ("x.pcapng",) if "2>x" in redirections
    )
    assert "are one file" in output or "same file" in output or "also the file" in output


def test_unopenable_capture_is_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = only_error(pypwru(BY_TRACEPOINT, f"--output-pcap={tmp_path}/file/x.pcapng"))
    assert "choose another --output-pcap" in message


@pytest.mark.parametrize("flag", ["--output-file", "--output-pcap", "--ready-file"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_wait_for_reader(tmp_path: Path, flag: str, number: int) -> None:
    """A named pipe without a reader is waited for, until the first signal."""
    pipe = tmp_path / "pipe.pcapng"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [*COMMAND, BY_TRACEPOINT, f"{flag}={pipe}", "icmp and host 10.255.255.254"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stderr
    line = process.stderr.readline()
    while ("Listening" if flag == "--ready-file" else "Waiting for a reader") not in line:
        assert line, "it ended"
        line = process.stderr.readline()
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
