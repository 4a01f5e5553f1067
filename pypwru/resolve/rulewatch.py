"""Monitor changes of nftables rulesets in all namespaces, and deletion of namespaces.

The sockets are in a new network namespace of their own and receive from every namespace that has
an nsid there (netlink(7), NETLINK_LISTEN_ALL_NSID): a socket in a monitored namespace would keep it
alive. The nsids are assigned in the new namespace, where no other program uses them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import NamedTuple

from pypwru.kernel.netns import in_new_namespace
from pypwru.kernel.nfnetlink import (
    DEL_CHAIN,
    DEL_RULE,
    DEL_TABLE,
    NEW_CHAIN,
    NEW_GENERATION,
    NEW_RULE,
    NEW_TABLE,
    Message,
    Netfilter,
    attribute,
    attributes,
    generation,
    messages,
)
from pypwru.kernel.nft_words import family_word
from pypwru.resolve.ruleset import name_text

_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _LISTEN_ALL_NSID = 1, 8
_NFNLGRP_NFTABLES, _RTNLGRP_NSID = 7, 28
_NEWNSID, _DELNSID, _GETNSID = 88, 89, 90
_NSID, _FD = 1, 3  # NETNSA_NSID, NETNSA_FD
_HEADER = struct.Struct("=IHHII")
_RTGENMSG = bytes(4)  # family, and padding
_REQUEST_ACK, _ERROR = 0x5, 2
_PATIENCE = 10  # seconds; the kernel answers at once
_RECEIVE = 1 << 18
_ROOM = 4 << 20  # bytes of the receive buffer; an overflow is ENOBUFS
_MOST = 500  # datagrams that one read() takes, in some milliseconds
_SO_RCVBUFFORCE = 33
_CAP_NET_BROADCAST = 11
# Others, such as those of set elements, change no rule's text.
_CHANGES = {NEW_TABLE, DEL_TABLE, NEW_CHAIN, DEL_CHAIN, NEW_RULE, DEL_RULE}


class RuleName(NamedTuple):
    """A rule as named in notifications; ``handle`` is unique in its table."""

    family: str
    table: str
    handle: int


class Commit(NamedTuple):
    """A commit that changed tables, chains or rules.

    Args:
        generation: NFTA_GEN_ID of the ruleset after it.
        replaced: rules that were replaced, so that another rule has the handle (``nft replace``).
    """

    generation: int
    replaced: set[RuleName]


class _Begun(NamedTuple):
    """A commit whose NFT_MSG_NEWGEN is still to come.

    Args:
        tables: family and name of deleted tables.
        made: rules of NFT_MSG_NEWRULE.
        deleted: rules of NFT_MSG_DELRULE.
    """

    tables: set[tuple[str, str]]
    made: set[RuleName]
    deleted: set[RuleName]


class Notices(NamedTuple):
    """Changes since the last read.

    Args:
        commits: inode of a namespace -> commits that changed its rules.
        generations: inode -> last NFTA_GEN_ID, of any change, set elements included.
        gone: inodes of deleted namespaces.
        lost: the socket overflowed (ENOBUFS): notifications are missing.
        partial: more can be read, or the end of a commit is still to come.
    """

    commits: dict[int, list[Commit]]
    generations: dict[int, int]
    gone: set[int]
    lost: bool = False
    partial: bool = False


class Watch:
    """Receives notifications of all added namespaces, until it is closed. Not thread-safe, except
    ``filenos``.

    Raises:
        OSError: EPERM without CAP_NET_BROADCAST; or the namespace or a socket can't be made.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # inode -> nsid
        self._inodes: dict[int, int] = {}  # nsid -> inode
        self._begun: dict[int, _Begun] = {}  # nsid -> commit in progress
        self._next = 0
        self._losing = False  # overflowed, and not read to the end since
        # Without the capability the kernel skips messages of other namespaces, without an error.
        with open("/proc/thread-self/status") as status:
            (effective,) = (line.split()[1] for line in status if line.startswith("CapEff:"))
        if not int(effective, 16) >> _CAP_NET_BROADCAST & 1:
            raise OSError(errno.EPERM, "CAP_NET_BROADCAST is missing; run it as root of the host")
        self._rules, self._deaths, self._asking = in_new_namespace(_sockets)

    def close(self) -> None:
        """Close the sockets, and with them their namespace."""
        for each in (self._rules, self._deaths, self._asking):
            each.close()

    def filenos(self) -> tuple[int, int]:
        """Return the descriptors to poll for POLLIN."""
        return self._rules.fileno(), self._deaths.fileno()

    def add(self, inode: int, descriptor: int) -> bool:
        """Subscribe to a namespace; False if that is done already.

        Args:
            inode: of the namespace.
            descriptor: of the namespace; not kept.

        Raises:
            OSError: RTM_NEWNSID failed.
        """
        if inode in self._numbers:
            return False
        self._next += 1
        self._ask(_NEWNSID, self._next, attribute(_FD, struct.pack("=I", descriptor)))
        self._numbers[inode] = self._next
        self._inodes[self._next] = inode
        return True

    def _ask(self, kind: int, number: int, more: bytes = b"") -> None:
        body = _RTGENMSG + attribute(_NSID, struct.pack("=i", number)) + more
        size = _HEADER.size + len(body)
        self._asking.send(_HEADER.pack(size, kind, _REQUEST_ACK, number, 0) + body)
        answered = 0
        while answered != _ERROR:  # NLMSG_ERROR is the ACK too, with code 0
            answer = self._asking.recv(_RECEIVE)
            answered = _HEADER.unpack_from(answer)[1]
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if code:
            raise OSError(code, os.strerror(code))

    def read(self) -> Notices:
        """Return changes since the last call, up to a limit; never waits.

        Raises:
            OSError: a socket failed, other than by an overflow.
        """
        # Deletions last: changes before a deletion are of the deleted namespace.
        commits, generations, ended = self._commits()
        lost = self._losing
        if lost and ended:
            # After an overflow the kernel queues nothing until all is read (NETLINK_S_CONGESTED):
            # the ends of these commits will not come.
            self._begun.clear()
            self._losing = False
        gone = self._gone()
        for inode in gone:
            number = self._numbers.pop(inode)
            del self._inodes[number]
            self._begun.pop(number, None)
        return Notices(commits, generations, gone, lost, bool(self._begun) or not ended)

    def _commits(self) -> tuple[dict[int, list[Commit]], dict[int, int], bool]:
        """Return ``commits`` and ``generations`` of Notices, and whether all was read."""
        done: dict[int, list[Commit]] = {}
        last: dict[int, int] = {}
        for _ in range(_MOST):
            try:
                datagram, extra, _, _ = self._rules.recvmsg(_RECEIVE, 64)
            except BlockingIOError:
                return done, last, True
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._losing = True
                continue
            for number in _numbers(extra):
                if number in self._inodes:
                    for message in messages(datagram):
                        self._take(number, message, done, last)
        return done, last, False

    def _take(
        self,
        number: int,
        message: Message,
        done: dict[int, list[Commit]],
        last: dict[int, int],
    ) -> None:
        if message.kind == NEW_GENERATION:
            begun = self._begun.pop(number, None)
            last[self._inodes[number]] = generation(message)
            if begun:
                commit = Commit(generation(message), begun.made & begun.deleted)
                done.setdefault(self._inodes[number], []).append(commit)
        elif message.kind in _CHANGES:
            _note(self._begun.setdefault(number, _Begun(set(), set(), set())), message)

    def _gone(self) -> set[int]:
        found: set[int] = set()
        while True:
            try:
                datagram = self._deaths.recv(_RECEIVE)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.update(inode for inode, n in self._numbers.items() if not self._lives(n))
                continue
            size, kind, *_ = _HEADER.unpack_from(datagram)
            if kind == _DELNSID:
                body = datagram[_HEADER.size + len(_RTGENMSG) : size]
                (number,) = struct.unpack("=i", dict(attributes(body))[_NSID])
                if number in self._inodes:
                    found.add(self._inodes[number])

    def _lives(self, number: int) -> bool:
        try:
            self._ask(_GETNSID, number)
        except FileNotFoundError:
            return False
        return True


def _sockets() -> tuple[socket.socket, socket.socket, socket.socket]:
    rules = Netfilter().socket
    rules.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
    _hear(rules, _NFNLGRP_NFTABLES)
    deaths, asking = (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) for _ in "da"
    )
    _hear(deaths, _RTNLGRP_NSID)
    asking.settimeout(_PATIENCE)
    return rules, deaths, asking


def _hear(listener: socket.socket, group: int) -> None:
    with contextlib.suppress(OSError):  # without the host's CAP_NET_ADMIN: default buffer size
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    # An unbound socket has port ID 0 as the kernel has, and a broadcast skips its sender's port ID.
    listener.bind((0, 0))
    listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    listener.setblocking(False)


def _note(commit: _Begun, message: Message) -> None:
    if message.kind not in (DEL_TABLE, NEW_RULE, DEL_RULE):
        return
    found = dict(attributes(message.body))
    table = family_word(message.family), name_text(found[1])
    if message.kind == DEL_TABLE:
        commit.tables.add(table)
        return
    rule = RuleName(*table, int.from_bytes(found[3], "big"))
    if message.kind == DEL_RULE:
        commit.deleted.add(rule)
    elif table not in commit.tables:  # otherwise of a new table with the name of a deleted one
        commit.made.add(rule)


def _numbers(extra: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the nsid of the namespace that a message came from, from its control messages."""
    return [
        struct.unpack("=i", data)[0]
        for level, kind, data in extra
        if (level, kind) == (_SOL_NETLINK, _LISTEN_ALL_NSID)
    ]
