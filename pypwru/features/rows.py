"""The table of features: each names what pypwru uses of a kernel beyond what all kernels have.

Those of backends and of fentry on programs are beside their trials, which a trace does too. The
versions are those of x86-64.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

from pypwru.attach.bpf_programs import PROGRAM_FENTRY
from pypwru.attach.kernel_switches import SWITCHES, Switch, is_off
from pypwru.attach.support import BACKEND_FEATURES
from pypwru.bpf_sources import XTABLES
from pypwru.btf.enums import find_enum
from pypwru.btf.load import CURE as BTF_CURE
from pypwru.btf.load import SYSFS, module_names
from pypwru.btf.types import Kind
from pypwru.errors import BTFError, KernelError
from pypwru.fds import closing_fd
from pypwru.kernel import bpf, pseudofs
from pypwru.kernel.bpf import MapType
from pypwru.kernel.feature import Feature, Undetermined
from pypwru.kernel.ftrace import MOUNT_POINTS
from pypwru.kernel.lockdown import Lockdown, level, require_kernel_reads
from pypwru.kernel.netns import own_netns_cookie
from pypwru.names.drop_reasons import ENUM as DROP_REASON_ENUM
from pypwru.nft.types import MODULE as NFT_MODULE
from pypwru.nft.types import NftTypes, require_types
from pypwru.nft.verdict_sources import VERDICT_SOURCES
from pypwru.nft.xt_types import XtTypes
from pypwru.program.conntrack_types import require_conntrack_types
from pypwru.program.maps import lift_memlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.config import Backend
    from pypwru.discovery.functions import Function
    from pypwru.features.kernel import Kernel
    from pypwru.nft.verdict_sources import VerdictSource

_PAGE = 4096  # bytes; the smallest ring buffer
_NFT_SOURCE = VERDICT_SOURCES[0]
assert _NFT_SOURCE.fallback, "expressions are hooked where the kernel has no trace events"


def _probe_btf(kernel: Kernel) -> str:
    kernel.load_btf().find("sk_buff", Kind.STRUCT)  # the first query reads the file
    return f"from {kernel.kernel_btf}" if kernel.kernel_btf else ""


def _probe_module_btf(kernel: Kernel) -> str:
    """Without a loaded module, ``struct btf_module`` shows the option: kernel/bpf/btf.c has both.

    Linux commit 36e68442d1af ("bpf: Load and verify kernel module BTFs") (in v5.11).
    """
    if not module_names() and not kernel.btf.find("btf_module", Kind.STRUCT):
        raise KernelError(f"{SYSFS} has no files of modules")
    return ""


def _probe_ring_buffer(kernel: Kernel) -> str:
    lift_memlock()
    try:
        with closing_fd(bpf.map_create(MapType.RINGBUF, "probe", 0, 0, _PAGE)):
            return ""
    except OSError as error:
        raise KernelError(f"the kernel refuses the map ({error.strerror})") from error


def _probe_drop_reasons(kernel: Kernel) -> str:
    find_enum(kernel.btf, DROP_REASON_ENUM)
    return ""


def _probe_cookies(kernel: Kernel) -> str:
    try:
        own_netns_cookie()
    except OSError as error:
        raise KernelError(f"SO_NETNS_COOKIE is refused ({error.strerror})") from error
    return ""


def _probe_call_sites(kernel: Kernel) -> str:
    name = "available_filter_functions_addrs"
    try:
        with closing_fd(pseudofs.open_file("tracefs", name, MOUNT_POINTS)):
            return ""
    except OSError as error:
        raise KernelError(f"can't open {name} of tracefs ({error.strerror})") from error


def _probe_struct_text(kernel: Kernel) -> str:
    try:
        helpers = find_enum(kernel.btf, "bpf_func_id")
    except BTFError as error:
        raise Undetermined("the kernel's BTF doesn't name its helpers") from error
    if "BPF_FUNC_snprintf_btf" not in helpers:
        raise KernelError("the kernel has no helper bpf_snprintf_btf()")
    return ""


def _probe_kernel_reads(kernel: Kernel) -> str:
    found = level()
    if found is Lockdown.UNKNOWN:
        raise Undetermined("needs root" if os.geteuid() else "the lockdown level can't be read")
    require_kernel_reads()
    return f"lockdown is {found.value}"


def _probe_switch(switch: Switch, kernel: Kernel) -> str:
    try:
        with closing_fd(switch.open()) as fd:
            if is_off(fd):
                raise KernelError(f"{switch.path} is 0")
    except FileNotFoundError:
        return "this kernel has no such switch"
    except OSError as error:
        if error.errno == errno.ENODEV:  # no such filesystem
            return "this kernel has no such switch"
        why = "needs root" if os.geteuid() else f"{switch.path}: {error.strerror}"
        raise Undetermined(why) from error
    return ""


def _find_nft(kernel: Kernel) -> Sequence[Function]:
    """Return the functions of nf_tables, which is not loaded for that.

    Raises:
        Undetermined: it is not loaded.
        KernelError: functions can't be traced.
    """
    functions = _NFT_SOURCE.find_functions(kernel.verdict_symbols)
    if not functions:
        raise Undetermined(f"{NFT_MODULE} is not loaded")
    kernel.require_kprobes()
    return functions


def _probe_nft(kernel: Kernel) -> str:
    _find_nft(kernel)
    _require_types(NFT_MODULE, NftTypes(kernel.btf).has_btf)
    return ""


def _probe_nft_trace(kernel: Kernel) -> str:
    with _NFT_SOURCE.enable(_find_nft(kernel)):
        return ""


def _probe_xtables(kernel: Kernel) -> str:
    sources = [source for source in VERDICT_SOURCES if source.unit == XTABLES]
    loaded = [one for source in sources for one in source.find_functions(kernel.verdict_symbols)]
    if not loaded:
        raise Undetermined(f"not loaded: {', '.join(map(_modules, sources))}")
    kernel.require_kprobes()
    for function in loaded:
        types = XtTypes(kernel.btf, function.module, function.name)
        _require_types(function.module, types.has_btf)
    return ", ".join(function.display for function in loaded)


def _require_types(module: str, has_btf: bool) -> None:
    """As ``require_types``, with the cure on its own."""
    try:
        require_types(module, has_btf)
    except BTFError as error:
        cure = "boot a kernel with CONFIG_DEBUG_INFO_BTF_MODULES=y"
        raise KernelError(f"module {module} has no BTF", cure) from error


def _modules(source: VerdictSource) -> str:
    return " ".join(source.modules)


def _probe_conntrack(kernel: Kernel) -> str:
    require_conntrack_types(kernel.btf)
    return ""


def _names(backends: frozenset[Backend]) -> str:
    return ", ".join(sorted(backend.value for backend in backends))


FEATURES: tuple[Feature, ...] = (
    # Linux commit 341dfcf8d78e ("btf: expose BTF info through sysfs") (in v5.4).
    Feature(
        "BTF of the kernel",
        since="5.4",
        options=("CONFIG_DEBUG_INFO_BTF",),
        probe=_probe_btf,
        cost="nothing can be traced, and lists have only names that pypwru knows",
        cure=BTF_CURE,
        needs_root=False,
    ),
    Feature(
        "BTF of modules",
        since="5.11",
        options=("CONFIG_DEBUG_INFO_BTF_MODULES",),
        probe=_probe_module_btf,
        cost="no functions of modules, and nftables in a module only on Debian's 5.10",
        is_fixed=True,
        needs_root=False,
    ),
    # Linux commit 457f44363a88 ("bpf: Implement BPF ring buffer and verifier support for it") (in
    # v5.8).
    Feature(
        "BPF ring buffer",
        since="5.8",
        options=(),
        probe=_probe_ring_buffer,
        cost="nothing can be traced",
        is_fixed=True,
    ),
    Feature(
        "kernel memory readable by BPF",
        since="",
        options=(),
        probe=_probe_kernel_reads,
        cost="nothing can be traced",
        cure="boot with lockdown=integrity or lockdown=none",
        needs_root=False,
    ),
    *BACKEND_FEATURES.values(),
    *(
        Feature(
            f"{switch.name} switched on",
            since="",
            options=(),
            probe=partial(_probe_switch, switch),
            cost=f"these backends have no events: {_names(switch.disables_all)}",
            cure=f"echo 1 > {switch.path}",
            needs_root=False,
        )
        for switch in SWITCHES
    ),
    # Linux commit 83f74441bcb1 ("tracing: Add available_filter_functions_addrs file") (in v6.5).
    Feature(
        "addresses of traceable functions",
        since="6.5",
        options=("CONFIG_DYNAMIC_FTRACE",),
        probe=_probe_call_sites,
        cost="of functions with the same name, some may be refused, and counted as ignored",
    ),
    PROGRAM_FENTRY,
    Feature(
        "drop reasons",
        since="5.17",
        options=(),
        probe=_probe_drop_reasons,
        cost="drops have no reason, and a few packets that did their work look dropped",
        is_fixed=True,
        needs_root=False,
    ),
    # Linux commit e8b9eab99232 ("net: retrieve netns cookie via getsocketopt") (in v5.14).
    Feature(
        "cookies of network namespaces",
        since="5.14",
        options=(),
        probe=_probe_cookies,
        cost="NETNS NAME is empty for packets of a namespace that is gone when they are printed",
        is_fixed=True,
        needs_root=False,
    ),
    # Linux commit c4d0bfb45068 ("bpf: Add bpf_snprintf_btf helper") (in v5.10).
    Feature(
        "structs as text",
        since="5.10",
        options=(),
        probe=_probe_struct_text,
        cost="--output-skb and --output-skb-shared-info are refused",
        is_fixed=True,
        needs_root=False,
    ),
    Feature(
        "nftables",
        since="",
        options=(),
        probe=_probe_nft,
        cost="no nftables events, verdicts and filters",
    ),
    Feature(
        "nftables trace events",
        since="",
        options=(),
        probe=_probe_nft_trace,
        cost=f"expressions of rules are hooked instead: {_NFT_SOURCE.fallback[1]}",
    ),
    Feature(
        "iptables-legacy, ebtables",
        since="",
        options=(),
        probe=_probe_xtables,
        cost="no verdicts of iptables-legacy and ebtables",
    ),
    Feature(
        "conntrack",
        since="",
        options=(),
        probe=_probe_conntrack,
        cost="--output-ct is left out",
        needs_root=False,
    ),
)
"""All features, in the order of the table; names are unique."""
