"""Struct members of conntrack that the BPF programs read, from BTF.

nf_conntrack is a module in most distributions, but their vmlinux has its types, too, since core
code uses them. If not, they are in the BTF of the module, if that is loaded when pypwru starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.load import SYSFS, load_module, module_names
from pypwru.btf.members import find_member, has_member
from pypwru.errors import BTFError, KernelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pypwru.btf.query import BTF
    from pypwru.btf.types import Field
    from pypwru.log import Log

_MODULE = "nf_conntrack"
_NFCT_MEMBER = ("sk_buff", "_nfct")
_TUPLE_MEMBER = ("nf_conn", "tuplehash")


class ConntrackTypes:
    """The structs of conntrack.

    Args:
        btf: of vmlinux or the module, whichever has them.
    """

    def __init__(self, btf: BTF) -> None:
        self._btf = btf

    def member(self, struct: str, path: str) -> Field | None:
        """Return the location of a member; None if BTF doesn't have it.

        Args:
            struct: its name, without ``struct``.
            path: member names joined by dots.
        """
        try:
            return find_member(self._btf, struct, path)
        except BTFError:
            return None


def conntrack_types(btf: BTF, folder: Path = SYSFS) -> ConntrackTypes:
    """Return the types of conntrack in the running kernel.

    Args:
        btf: of vmlinux.
        folder: directory with the BTF of modules.

    Raises:
        BTFError: the module's BTF is malformed.
    """
    is_in_module = not has_member(btf, *_TUPLE_MEMBER) and _MODULE in module_names(folder)
    return ConntrackTypes(load_module(_MODULE, btf, folder) if is_in_module else btf)


def require_conntrack_types(btf: BTF, folder: Path = SYSFS) -> ConntrackTypes:
    """Return the types that --output-ct needs.

    Args:
        btf: of vmlinux.
        folder: directory with the BTF of modules.

    Raises:
        KernelError: this kernel lacks them.
        BTFError: the module's BTF is malformed.
    """
    types = conntrack_types(btf, folder)
    if not types.member(*_NFCT_MEMBER):
        raise KernelError("this kernel has no conntrack")
    if not types.member(*_TUPLE_MEMBER):
        raise KernelError("no BTF of conntrack", f"modprobe {_MODULE}, and start pypwru again")
    return types


def find_conntrack_types(btf: BTF, log: Log, folder: Path = SYSFS) -> Sequence[ConntrackTypes]:
    """Return the types that --output-ct needs; if this kernel lacks them, none, and log why.

    Args:
        btf: of vmlinux.
        log: for the warning.
        folder: directory with the BTF of modules.

    Returns:
        One element, or none: the run then continues without --output-ct.

    Raises:
        BTFError: the module's BTF is malformed.
    """
    try:
        return (require_conntrack_types(btf, folder),)
    except KernelError as error:
        why = f"{error.cause}: {error.cure}" if error.cure else error.cause
    log.warn("Continuing without --output-ct", why=why)
    return ()
