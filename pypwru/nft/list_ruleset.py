"""List the nftables rules of a network namespace.

Tables, chains and rules come from netlink dumps, texts from ``nft`` and ``iptables-nft-save``. The
ruleset may change between them. A text still belongs to the rule with its handle, unless a
``replace`` gave the handle to another rule: the kernel notifies of that (see monitor.py). Messages
of chains and rules have only the name of their table, so a table that was created anew meanwhile is
left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from pypwru.kernel.netlink import GET_CHAIN, GET_RULE, GET_TABLE, NetfilterSocket
from pypwru.kernel.netns import run_in_namespace
from pypwru.nft.parse_listing import (
    RuleHandles,
    find_special_strings,
    parse_iptables_save,
    parse_nft_listing,
)
from pypwru.nft.ruleset import Tables, decode_text, parse_ruleset

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# -a: with handles; -s: without values of counters; -t: without elements of named sets.
_NFT = ("nft", "-a", "-s", "-t", "list")
_NFT_JSON = ("nft", "-j", "-s", "-t", "list", "ruleset")
_NO_TEXT = "so rules are shown without their text"
_NFT_TEXT = "so rules with matches or targets of iptables are shown as nft lists them"
_SBIN_DIRS = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # not in every user's PATH
_IPTABLES_TABLES = {"filter", "nat", "mangle", "raw", "security", "broute"}
_DUMP_KINDS = (GET_TABLE, GET_CHAIN, GET_RULE)
_MAX_ATTEMPTS = 4
_TIMEOUT = 60  # seconds; nft takes some for a hundred thousand rules
_IPTABLES_SAVE = {
    "ip": ("iptables-nft-save", "-t"),
    "ip6": ("ip6tables-nft-save", "-t"),
    "bridge": ("ebtables-nft-save", "-t"),
    "arp": ("arptables-nft-save",),  # has one table, and no -t
}


class RulesetSnapshot(NamedTuple):
    """A snapshot of a ruleset.

    Args:
        start_generation, generation: NFTA_GEN_ID of the ruleset when the listing began and when it
            ended; all notifications up to the former had been sent before it began.
        tables: by handle, from netlink.
        texts: handles of a rule -> its text; without rules that have none.
        assigned_by_order: keys of ``texts`` that were assigned by the order of rules: wrong if a
            rule was added or deleted during the listing.
        began, ended: ns, CLOCK_MONOTONIC.
        is_complete: it is complete for ``generation``: during the listing, no table, chain or rule
            changed.
        faults: why texts are missing, as sentences for the log.
    """

    start_generation: int
    generation: int
    tables: Tables
    texts: dict[RuleHandles, str]
    assigned_by_order: Collection[RuleHandles]
    began: int
    ended: int
    is_complete: bool
    faults: Sequence[str] = ()


class RulesetLister:
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

    def list(self, namespace: int, known_generation: int) -> RulesetSnapshot | None:
        """List the ruleset of a network namespace; None if ``known_generation`` is its present one.

        Args:
            namespace: descriptor of the namespace.
            known_generation: NFTA_GEN_ID of the ruleset that the caller has; -1 for none.

        Raises:
            InterruptedError: the ruleset changed during each of several attempts.
            OSError: the namespace can't be entered, or nf_tables refused a dump.
        """
        return run_in_namespace(namespace, lambda: self._list(known_generation))

    def _list(self, known_generation: int) -> RulesetSnapshot | None:
        with NetfilterSocket() as netfilter:
            for _ in range(_MAX_ATTEMPTS):
                start_generation = netfilter.generation()
                if start_generation == known_generation:
                    return None
                # Its commit may still be in progress, and the rules those of the one before.
                netfilter.wait_for_commit()
                began = time.monotonic_ns()
                self._faults = []
                dumps = [netfilter.dump(kind, consistent=False) for kind in _DUMP_KINDS]
                # Deleted and created anew between the dumps, as by `flush ruleset` and a new table:
                # the rules of the new table would be listed under the handle of the old one.
                remaining = parse_ruleset(netfilter.dump(GET_TABLE, consistent=False), (), ())
                with contextlib.suppress(InterruptedError):
                    tables = parse_ruleset(*dumps)
                    tables = {handle: tables[handle] for handle in tables if handle in remaining}
                    texts, assigned_by_order = self._list_texts(tables, netfilter, start_generation)
                    ended = time.monotonic_ns()
                    end_generation = netfilter.generation()
                    is_complete = end_generation == start_generation
                    times = began, ended
                    return RulesetSnapshot(
                        start_generation,
                        end_generation,
                        tables,
                        texts,
                        assigned_by_order,
                        *times,
                        is_complete,
                        self._faults,
                    )
        raise InterruptedError(4, "the ruleset changes faster than it can be read")

    def _list_texts(
        self, tables: Tables, netfilter: NetfilterSocket, start_generation: int
    ) -> tuple[dict[RuleHandles, str], Collection[RuleHandles]]:
        """Return the texts, and the keys of those that were assigned by order alone.

        Args:
            tables: from netlink.
            netfilter: socket in the namespace.
            start_generation: the generation of ``tables``. Texts that don't fit are a fault only
                if the ruleset is still of this generation.
        """
        if not tables:
            return {}, ()
        listing = self._list_nft(tables)
        texts, mismatches = parse_nft_listing(listing, tables)
        if mismatches and not self._has_fault() and netfilter.generation() == start_generation:
            # nft's JSON has the multi-line strings that are no comments of rules or chains.
            texts, mismatches = parse_nft_listing(
                listing, tables, find_special_strings(self._run(*_NFT_JSON))
            )
        if mismatches and not self._has_fault() and netfilter.generation() == start_generation:
            self._faults.append(
                f"nft lists other rules than the kernel has, in table {mismatches[0]}"
            )
        assigned_by_order: dict[RuleHandles, str] = {}
        for handle, table in tables.items():
            if table.family in _IPTABLES_SAVE and table.name in _IPTABLES_TABLES and table.has_xt:
                command, *option = _IPTABLES_SAVE[table.family]
                words = (command, *option, *([table.name] if option else []))
                saved = self._run(*words, consequence=_NFT_TEXT)
                assigned_by_order |= parse_iptables_save(saved, handle, table)
        return texts | assigned_by_order, assigned_by_order.keys()

    def _has_fault(self) -> bool:
        """Return whether the reason for missing texts is known already."""
        return bool(self._faults) or self._closed

    def _list_nft(self, tables: Tables) -> str:
        listing = self._run(*_NFT, "ruleset")
        if listing or len(tables) == 1 or not _find_command("nft"):
            return listing
        self._faults.clear()  # nft failed on the whole ruleset, and may succeed on each table
        return "".join(
            self._run(*_NFT, "table", table.family, table.name) for table in tables.values()
        )

    def _run(self, *words: str, consequence: str = _NO_TEXT) -> str:
        """Run a command and return its output; "" and a fault if it fails.

        Args:
            words: the command and its arguments.
            consequence: the consequence of a failure, for the fault.
        """
        program = _find_command(words[0])
        if program is None:
            package = "iptables" if words[0] != "nft" else "nftables"
            self._faults.append(f"{words[0]} isn't there, {consequence}: install {package}")
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
                out, err = child.communicate(timeout=_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = b"", f"no answer in {_TIMEOUT} s".encode()
            finally:
                self._child = None
        if child.returncode == 0:
            return decode_text(out)
        if not self._closed:
            reason = decode_text(err).strip().partition("\n")[0]
            self._faults.append(f"{' '.join(words)} failed, {consequence}: {reason}")
        return ""


def _find_command(command: str) -> str | None:
    """Return the path of a command, from absolute PATH entries only.

    The current folder may be writable by other users.
    """
    folders = (os.environ.get("PATH") or os.defpath).split(os.pathsep)
    return shutil.which(
        command, path=os.pathsep.join(filter(os.path.isabs, (*folders, *_SBIN_DIRS)))
    )
