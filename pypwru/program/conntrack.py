"""Where conntrack keeps what is read of it.

It is a module on most distributions, but their vmlinux has its types, too, since core code handles
them. Where it has not, they come with the module, if it is there when pypwru starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.load import SYSFS, load_module, module_names
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pypwru.btf.query import BTF
    from pypwru.btf.types import Field
    from pypwru.config import Config
    from pypwru.log import Log

_MODULE = "nf_conntrack"
_HAS = ("sk_buff", "_nfct")
_KNOWN = ("nf_conn", "tuplehash")


class ConntrackTypes:
    """The structs of conntrack.

    Args:
        btf: where they are.
    """

    def __init__(self, btf: BTF) -> None:
        self._btf = btf

    def member(self, struct: str, path: str) -> Field | None:
        """Where a member is; None if it isn't known."""
        try:
            return self._btf.member(struct, path)
        except BTFError:
            return None


def conntrack_types(btf: BTF, folder: Path = SYSFS) -> ConntrackTypes:
    """Those of the kernel; arguments and errors as of ``conntrack_where_possible``."""
    elsewhere = not btf.has_member(*_KNOWN) and _MODULE in module_names(folder)
    return ConntrackTypes(load_module(_MODULE, btf, folder) if elsewhere else btf)


def conntrack_where_possible(
    config: Config, btf: BTF, log: Log, folder: Path = SYSFS
) -> tuple[Config, Sequence[ConntrackTypes]]:
    """``config``, without conntrack where its types aren't known, which is said; and they.

    Args:
        btf: of vmlinux.
        folder: with the types of modules.

    Raises:
        BTFError: those of conntrack are malformed.
    """
    if not config.output_ct:
        return config, ()
    types = conntrack_types(btf, folder)
    if not types.member(*_HAS):
        why = "this kernel has no conntrack"
    elif not types.member(*_KNOWN):
        why = f"its types are not known: modprobe {_MODULE}, and start pypwru again"
    else:
        return config, (types,)
    log.warn("Can't tell what conntrack knows", why=why)
    return config._replace(output_ct=False), ()
