"""List the nftables rules of a network namespace.

Tables, chains and rules come from netlink dumps, texts from ``nft`` and ``iptables-nft-save``. The
ruleset may change between them. A text still belongs to the rule with its handle, unless a
``replace`` gave the handle to another rule: the kernel notifies of that (see rulewatch.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from pypwru.kernel.netns import in_namespace
from pypwru.kernel.nfnetlink import GET_CHAIN, GET_RULE, GET_TABLE, Netfilter
from pypwru.resolve.ruleset import Tables, build, readable
from pypwru.resolve.ruletexts import Key, iptables_texts, nft_texts, strings_in

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# -a: with handles; -s: without values of counters; -t: without elements of named sets.
_NFT = ("nft", "-a", "-s", "-t", "list")
_NFT_JSON = ("nft", "-j", "-s", "-t", "list", "ruleset")
_NO_TEXT = "so rules are shown without their text"
_BY_NFT = "so rules with matches or targets of iptables are shown as nft lists them"
_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # not in every user's PATH
_IPTABLES_TABLES = {"filter", "nat", "mangle", "raw", "security", "broute"}
_KINDS = (GET_TABLE, GET_CHAIN, GET_RULE)
_TRIES = 4
_PATIENCE = 60  # seconds; nft takes some for a hundred thousand rules
_SAVERS = {
    "ip": ("iptables-nft-save", "-t"),
    "ip6": ("ip6tables-nft-save", "-t"),
    "bridge": ("ebtables-nft-save", "-t"),
    "arp": ("arptables-nft-save",),  # has one table, and no -t
}


class Listing(NamedTuple):
    """A snapshot of a ruleset.

    Args:
        since, generation: NFTA_GEN_ID of the ruleset when the listing began and when it ended.
        tables: by handle, from netlink.
        texts: handles of a rule -> its text; without rules that have none.
        by_order: keys of ``texts`` that were assigned by the order of rules: wrong if a rule was
            added or deleted during the listing.
        began, ended: ns, CLOCK_MONOTONIC.
        is_whole: it is complete for ``generation``: during the listing, no table, chain or rule
            changed.
        faults: why texts are missing, as sentences for the log.
    """

    since: int
    generation: int
    tables: Tables
    texts: dict[Key, str]
    by_order: Collection[Key]
    began: int
    ended: int
    is_whole: bool
    faults: Sequence[str] = ()


class Lister:
    """Lists rulesets, one at a time. Only ``close`` may be called from another thread."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def close(self) -> None:
        """Kill the running command and start no other; may be called from another thread."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()

    def list(self, namespace: int, known: int) -> Listing | None:
        """List the ruleset of a network namespace; None if its generation is still ``known``.

        Args:
            namespace: descriptor of the namespace.
            known: NFTA_GEN_ID of the ruleset that the caller has; -1 for none.

        Raises:
            InterruptedError: the ruleset changed during each of several attempts.
            OSError: the namespace can't be entered, or nf_tables refused a dump.
        """
        return in_namespace(namespace, lambda: self._list(known))

    def _list(self, known: int) -> Listing | None:
        with Netfilter() as netfilter:
            for _ in range(_TRIES):
                since, began = netfilter.generation(), time.monotonic_ns()
                if since == known:
                    return None
                self._faults = []
                dumps = [netfilter.dump(kind, at_once=False) for kind in _KINDS]
                with contextlib.suppress(InterruptedError):
                    tables = build(*dumps)
                    texts, by_order = self._texts(tables, netfilter, since)
                    ended = time.monotonic_ns()
                    now = netfilter.generation()
                    whole = now == since
                    times = began, ended
                    return Listing(since, now, tables, texts, by_order, *times, whole, self._faults)
        raise InterruptedError(4, "the ruleset changes faster than it can be read")

    def _texts(
        self, tables: Tables, netfilter: Netfilter, since: int
    ) -> tuple[dict[Key, str], Collection[Key]]:
        """Return the texts, and the keys of those that were assigned by order alone.

        Args:
            tables: from netlink.
            netfilter: socket in the namespace.
            since: the generation of ``tables``. Texts that don't fit are a fault only if the
                ruleset is still of this generation.
        """
        if not tables:
            return {}, ()
        listing = self._list_nft(tables)
        texts, odd = nft_texts(listing, tables)
        if odd and not self._failed() and netfilter.generation() == since:
            # nft's JSON has the multi-line strings that are no comments of rules or chains.
            texts, odd = nft_texts(listing, tables, strings_in(self._run(*_NFT_JSON)))
        if odd and not self._failed() and netfilter.generation() == since:
            self._faults.append(f"nft lists other rules than the kernel has, in table {odd[0]}")
        by_order: dict[Key, str] = {}
        for handle, table in tables.items():
            if table.family in _SAVERS and table.name in _IPTABLES_TABLES and table.has_xt:
                command, *option = _SAVERS[table.family]
                words = (command, *option, *([table.name] if option else []))
                saved = self._run(*words, otherwise=_BY_NFT)
                by_order |= iptables_texts(saved, handle, table)
        return texts | by_order, by_order.keys()

    def _failed(self) -> bool:
        """Return whether the reason for missing texts is known already."""
        return bool(self._faults) or self._closed

    def _list_nft(self, tables: Tables) -> str:
        listing = self._run(*_NFT, "ruleset")
        if listing or len(tables) == 1 or not _find("nft"):
            return listing
        self._faults.clear()  # nft failed on the whole ruleset, and may succeed on each table
        return "".join(
            self._run(*_NFT, "table", table.family, table.name) for table in tables.values()
        )

    def _run(self, *words: str, otherwise: str = _NO_TEXT) -> str:
        """Run a command and return its output; "" and a fault if it fails.

        Args:
            words: the command and its arguments.
            otherwise: the consequence of a failure, for the fault.
        """
        program = _find(words[0])
        if program is None:
            package = "iptables" if words[0] != "nft" else "nftables"
            self._faults.append(f"{words[0]} isn't there, {otherwise}: install {package}")
            return ""
        if self._closed:
            return ""
        # In a session of its own: Ctrl-C on the terminal doesn't reach it, close() kills it.
        with subprocess.Popen(
            (program, *words[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as child:
            self._child = child
            try:
                out, err = child.communicate(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = b"", f"no answer in {_PATIENCE} s".encode()
            finally:
                self._child = None
        if child.returncode == 0:
            return readable(out)
        if not self._closed:
            why = readable(err).strip().partition("\n")[0]
            self._faults.append(f"{' '.join(words)} failed, {otherwise}: {why}")
        return ""


def _find(command: str) -> str | None:
    """Return the path of a command, from absolute PATH entries only: the current folder may be
    writable by other users.
    """
    folders = (os.environ.get("PATH") or os.defpath).split(os.pathsep)
    return shutil.which(command, path=os.pathsep.join(filter(os.path.isabs, (*folders, *_FOLDERS))))
