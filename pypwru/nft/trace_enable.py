"""The kernel's static key ``nft_trace_enabled``, enabled without changing an existing ruleset.

While it is enabled, ``nft_do_chain`` calls ``__nft_trace_packet`` for every rule that matches, in
every network namespace. The key is global and counts the rules with ``meta nftrace set`` in any
namespace: nft_meta_set_init() of net/netfilter/nft_meta.c increments it. So a private network
namespace gets such a rule, in a chain without a hook. Only a descriptor keeps that namespace: when
this process ends, even if it is killed, the kernel removes the namespace, the rule and so the key.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypwru.errors import KernelError, NoNftables
from pypwru.fds import closing_fd
from pypwru.kernel.netlink import (
    INET,
    NEW_CHAIN,
    NEW_RULE,
    NEW_TABLE,
    Message,
    NetfilterSocket,
    encode_attribute,
    encode_nested,
)
from pypwru.kernel.netns import open_own_netns, run_in_new_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE, _CHAIN = "pypwru_key", "k"
_REGISTER = 1  # NFT_REG_1
_NFTRACE = 12  # NFT_META_NFTRACE


def _encode_expression(name: str, *parts: bytes) -> bytes:
    # NFTA_LIST_ELEM of NFTA_EXPR_NAME and NFTA_EXPR_DATA
    return encode_nested(1, encode_attribute(1, name), encode_nested(2, *parts))


# As nft compiles `table inet pypwru_key { chain k { meta nftrace set 1; }; }`.
_RULESET = (
    Message(NEW_TABLE, INET, encode_attribute(1, _TABLE)),
    Message(NEW_CHAIN, INET, encode_attribute(1, _TABLE) + encode_attribute(3, _CHAIN)),
    Message(
        NEW_RULE,
        INET,
        encode_attribute(1, _TABLE)
        + encode_attribute(2, _CHAIN)
        + encode_nested(
            4,  # NFTA_RULE_EXPRESSIONS
            _encode_expression(
                "immediate",
                encode_attribute(1, _REGISTER),
                encode_nested(2, encode_attribute(1, b"\1")),
            ),
            _encode_expression(
                "meta", encode_attribute(2, _NFTRACE), encode_attribute(3, _REGISTER)
            ),
        ),
    ),
)

_NOT_SUPPORTED = {errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}
_CURES = {
    errno.EPERM: "it takes CAP_SYS_ADMIN and CAP_NET_ADMIN; run it as root of the host",
    errno.ENOSPC: "raise the sysctl user.max_net_namespaces",
    errno.EINVAL: "this kernel lacks CONFIG_NET_NS, or nf_tables has no meta expression",
    errno.ENOENT: "nf_tables lacks an expression, or procfs isn't mounted at /proc",
}


def _create_ruleset() -> int:
    with NetfilterSocket() as netfilter:
        netfilter.create(_RULESET)
    return open_own_netns()


@contextmanager
def enable_nft_tracing() -> Iterator[int]:
    """Enable ``nft_trace_enabled`` in the context.

    This loads the module nf_tables. To avoid that, check first whether it is loaded.

    Yields:
        A descriptor of the private namespace, which no process and no thread is in.

    Raises:
        NoNftables: the kernel has no nf_tables.
        KernelError: it refused; the message has the cause and the remedy.
    """
    try:
        descriptor = run_in_new_namespace(_create_ruleset)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in _NOT_SUPPORTED:
            raise NoNftables(
                f"this kernel has no nf_tables ({why}): there are no nftables rules to trace"
            ) from error
        cure = _CURES.get(error.errno or 0, "trace without --output-nft")
        raise KernelError(
            f"cannot enable tracing of nftables rules, by a private network namespace with one "
            f"rule: {why}",
            cure,
        ) from error
    with closing_fd(descriptor):
        yield descriptor
