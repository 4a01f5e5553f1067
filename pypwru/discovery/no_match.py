"""Errors for a request that matches nothing: the reason, and how to change the request."""

from __future__ import annotations

import re
from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pypwru.discovery import arguments
from pypwru.discovery.listed_functions import LookupScope, explain_missing
from pypwru.discovery.tracepoints import find_all_tracepoints
from pypwru.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pypwru.btf.query import BTF
    from pypwru.discovery.functions import DiscoveryResult
    from pypwru.discovery.selection import Selection

_CURE_REASONS = "pypwru --list-functions has the reasons"
_CURE_LIST = "use names from pypwru --list-functions"
_NAME = re.compile(r"\w+", re.ASCII)


def no_function_error(
    selection: Selection, btf: BTF, modules: Mapping[str, BTF], discovery: DiscoveryResult
) -> KernelError:
    """Return the error for a discovery without functions: pwru's text, a reason and advice.

    Args:
        selection: that matched nothing.
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules that were searched.
        discovery: the result, with the functions that can't be traced.
    """
    summary = "Cannot find a matching kernel function"
    if selection.only is not None:
        return KernelError(
            f"{summary}: {_explain_unlisted(selection.only, btf, modules, discovery)}", _CURE_LIST
        )
    has_tracepoints = bool(_tracepoint_names(btf, modules))
    if next(btf.functions(), None) is None:
        other_backend = "trace with --backend tracepoint, or " if has_tracepoints else ""
        return KernelError(
            f"{summary}: the BTF has types but no functions, as pahole before 1.16 makes it",
            f"{other_backend}give another --kernel-btf FILE",
        )
    name = selection.filter_func
    if not _NAME.fullmatch(name):
        advice = "trace with --backend tracepoint" if has_tracepoints else _CURE_REASONS
        if loosening := _suggest_loosening(selection):
            return KernelError(f"{summary}: {loosening}")
        return KernelError(f"{summary}: this kernel allows none to be hooked", advice)
    if discovery.unattachable:
        return KernelError(
            f"{summary}: {name} can't be traced ({discovery.unattachable[0].why})",
            "trace a caller",
        )
    skb_functions = {
        function
        for types in (btf, *modules.values())
        for function, _, _ in types.functions_taking(arguments.SKB_STRUCT)
    }
    if name in skb_functions:
        return KernelError(f"{summary}: {_suggest_loosening(selection)}")
    is_in_btf = any(name == function for function, _ in btf.functions())
    problem = "has no sk_buff argument" if is_in_btf else "is not in this kernel's BTF"
    return KernelError(
        f"{summary}: {name} {problem}", _suggest_names(name, skb_functions, bool(modules))
    )


def no_tracepoint_error(selection: Selection, btf: BTF, modules: Mapping[str, BTF]) -> KernelError:
    """Return the error for a discovery without tracepoints.

    Args:
        selection: that matched nothing.
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules that were searched.
    """
    names = _tracepoint_names(btf, modules)
    summary = "Cannot find a matching tracepoint"
    if selection.only is not None:
        return KernelError(f"{summary}: {_explain_unlisted(selection.only, btf)}", _CURE_LIST)
    if not names:
        return KernelError(
            f"{summary}: this kernel has none with an sk_buff argument",
            "choose another --backend",
        )
    if selection.filter_func and not any(map(selection.name_matches, names)):
        return KernelError(
            f"{summary}: the tracepoint backend applies --filter-func {selection.filter_func!r} to "
            "tracepoints",
            _suggest_names(selection.filter_func, names, True),
        )
    return KernelError(f"{summary}: {_suggest_loosening(selection)}")


def _tracepoint_names(btf: BTF, modules: Mapping[str, BTF]) -> set[str]:
    """Return the names of the tracepoints that have an sk_buff argument."""
    return {tracepoint.name for tracepoint in find_all_tracepoints(btf, modules)}


def _explain_unlisted(
    only: frozenset[str],
    btf: BTF,
    modules: Mapping[str, BTF] | None = None,
    discovery: DiscoveryResult | None = None,
) -> str:
    """Return the reasons for which names of --functions are missing, with one name for each."""
    unattachable = discovery.unattachable if discovery else ()
    reasons = {why: [function.display] for function, why in reversed(unattachable)}
    rest = only.difference(*reasons.values(), (one.function.display for one in unattachable))
    scope = LookupScope(btf, modules or {}, is_tracepoint_backend=discovery is None)
    reasons |= explain_missing(rest, scope)
    text = "; ".join(f"{names[0]}: {why}" for why, names in sorted(reasons.items()))
    return f"none of the {len(only)} names in --functions can be traced ({text})"


def _suggest_names(name: str, names: Collection[str], has_modules: bool) -> str:
    near = get_close_matches(name, sorted(names), n=3, cutoff=0.6)
    module = "" if has_modules else "; if a module has it, add --all-kmods"
    if near:
        return f"did you mean {', '.join(near)}?{module}"
    return f"use a function that takes an sk_buff, for example {min(names, default='-')}" + (module)


def _suggest_loosening(selection: Selection) -> str:
    """Return advice which of the given flags to loosen; "" if none narrows the selection."""
    given = [
        flag
        for flag, narrows in (
            (f"--filter-func {selection.filter_func!r}", bool(selection.filter_func)),
            (f"--priority {selection.priority}", selection.priority < 3),
            (f"--category {' '.join(sorted(selection.categories))}", bool(selection.categories)),
        )
        if narrows
    ]
    if not given:
        return ""
    return f"loosen {' or '.join(given)}, or add --all-kmods"


def nothing_attached_error(ignored: Sequence[tuple[str, str]]) -> KernelError:
    """Return the error for a run in which nothing is attached.

    Args:
        ignored: (display name, error) of what the kernel refused; empty if nothing was tried, which
            is pwru's error text.
    """
    if ignored:
        ((why, count),) = Counter(why for _, why in ignored).most_common(1)
        return KernelError(
            f"Nothing is attached: the kernel refused all {len(ignored)}, {count} of them with "
            f"{why!r}",
            "--debug names each, and another --backend may be allowed",
        )
    return KernelError(
        "No kprobe/tc-bpf/xdp to trace!",
        "--filter-func names no function, and no BPF program of these kinds that can be traced is "
        "loaded: load one first, or widen --filter-func",
    )
