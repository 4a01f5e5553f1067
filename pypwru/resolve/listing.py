"""List the nftables rules of a network namespace.

A ruleset may change while it is listed. A text is its rule's all the same, by the handle, unless
another rule took the rule's place, which the kernel tells of.
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

# -a: handles; -s: without what counters count; -t: without the elements of named sets.
_NFT = ("nft", "-a", "-s", "-t", "list")
_NFT_JSON = ("nft", "-j", "-s", "-t", "list", "ruleset")
_NO_TEXT = "so rules are shown without their text"
_BY_NFT = "so rules with matches or targets of iptables are shown as nft lists them"
_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # not in everybody's PATH
_IPTABLES_TABLES = {"filter", "nat", "mangle", "raw", "security", "broute"}
_KINDS = (GET_TABLE, GET_CHAIN, GET_RULE)
_TRIES = 4
_PATIENCE = 60  # seconds; nft takes some for a hundred thousand rules
_SAVERS = {
    "ip": ("iptables-nft-save", "-t"),
    "ip6": ("ip6tables-nft-save", "-t"),
    "bridge": ("ebtables-nft-save", "-t"),
    "arp": ("arptables-nft-save",),  # knows one table, and no -t
}


class Listing(NamedTuple):
    """A ruleset.

    Args:
        since, generation: the numbers of its generations at the beginning and at the end.
        tables: what the kernel has.
        texts: of the rules that have one.
        by_order: rules whose texts are theirs only if no rule came or went meanwhile.
        began, ended: when; CLOCK_MONOTONIC, ns.
        is_whole: whether it is all of ``generation``.
        faults: what keeps texts from being known.
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
    """Lists rulesets; one at a time."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def close(self) -> None:
        """Let what is under way fail at once; from another thread."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()

    def list(self, namespace: int, known: int) -> Listing | None:
        """The ruleset; None if it is still of the generation ``known``.

        Args:
            namespace: a descriptor of it.
            known: -1 for none.

        Raises:
            InterruptedError: it changes faster than it can be read.
            OSError: the kernel refused.
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
        """Texts, and those rules that have them by their order alone.

        Args:
            tables: what the kernel had.
            since: of which generation.
        """
        if not tables:
            return {}, ()
        listing = self._list_nft(tables)
        texts, odd = nft_texts(listing, tables)
        if odd and not self._failed() and netfilter.generation() == since:
            # For strings of several lines that neither rules nor chains have as their comments.
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
        """Whether it is known why rules have no text."""
        return bool(self._faults) or self._closed

    def _list_nft(self, tables: Tables) -> str:
        listing = self._run(*_NFT, "ruleset")
        if listing or len(tables) == 1 or not _find("nft"):
            return listing
        self._faults.clear()  # a table alone may not be too much for this nft
        return "".join(
            self._run(*_NFT, "table", table.family, table.name) for table in tables.values()
        )

    def _run(self, *words: str, otherwise: str = _NO_TEXT) -> str:
        """What a command writes; nothing if it fails.

        Args:
            otherwise: said then, behind why it failed.
        """
        program = _find(words[0])
        if program is None:
            package = "iptables" if words[0] != "nft" else "nftables"
            self._faults.append(f"{words[0]} isn't there, {otherwise}: install {package}")
            return ""
        if self._closed:
            return ""
        # Of another session, so that the terminal's Ctrl-C ends us in our order.
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
    """The path of a program; never in the current folder, which may be anybody's."""
    folders = (os.environ.get("PATH") or os.defpath).split(os.pathsep)
    return shutil.which(command, path=os.pathsep.join(filter(os.path.isabs, (*folders, *_FOLDERS))))
