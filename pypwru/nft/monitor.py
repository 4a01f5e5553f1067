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

from pypwru.kernel.netfilter import family_name
from pypwru.kernel.netlink import (
    DEL_CHAIN,
    DEL_RULE,
    DEL_TABLE,
    NEW_CHAIN,
    NEW_GENERATION,
    NEW_RULE,
    NEW_TABLE,
    Message,
    NetfilterSocket,
    encode_attribute,
    parse_attributes,
    parse_generation,
    parse_messages,
)
from pypwru.kernel.netns import run_in_new_namespace
from pypwru.nft.ruleset import decode_name

_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _LISTEN_ALL_NSID = 1, 8
_NFNLGRP_NFTABLES, _RTNLGRP_NSID = 7, 28
_NEWNSID, _DELNSID, _GETNSID = 88, 89, 90
_NSID, _FD = 1, 3  # NETNSA_NSID, NETNSA_FD
_HEADER = struct.Struct("=IHHII")
_RTGENMSG = bytes(4)  # family, and padding
_REQUEST_ACK, _ERROR = 0x5, 2
_TIMEOUT = 10  # seconds; the kernel answers at once
_RECV_SIZE = 1 << 18
_RCVBUF = 4 << 20  # bytes of the receive buffer; an overflow is ENOBUFS
_MAX_DATAGRAMS = 500  # datagrams that one read() takes, in some milliseconds
_SO_RCVBUFFORCE = 33
_CAP_NET_BROADCAST = 11
# Others, such as those of set elements, change no rule's text.
_RULESET_MESSAGES = {NEW_TABLE, DEL_TABLE, NEW_CHAIN, DEL_CHAIN, NEW_RULE, DEL_RULE}


class RuleKey(NamedTuple):
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
    replaced: set[RuleKey]


class _OpenCommit(NamedTuple):
    """A commit whose NFT_MSG_NEWGEN is still to come.

    Args:
        deleted_tables: family and name of deleted tables.
        new_rules: rules of NFT_MSG_NEWRULE.
        deleted_rules: rules of NFT_MSG_DELRULE.
    """

    deleted_tables: set[tuple[str, str]]
    new_rules: set[RuleKey]
    deleted_rules: set[RuleKey]


class Changes(NamedTuple):
    """Changes since the last read.

    Args:
        commits: inode of a namespace -> commits that changed its rules.
        generations: inode -> last NFTA_GEN_ID, of any change, set elements included.
        deleted_namespaces: inodes of deleted namespaces.
        has_overflowed: the socket overflowed (ENOBUFS): notifications are missing.
        is_partial: more can be read, or the end of a commit is still to come.
    """

    commits: dict[int, list[Commit]]
    generations: dict[int, int]
    deleted_namespaces: set[int]
    has_overflowed: bool = False
    is_partial: bool = False


class RulesetMonitor:
    """Receives notifications of all added namespaces, until it is closed.

    Not thread-safe, except ``filenos``.

    Raises:
        OSError: EPERM without CAP_NET_BROADCAST; or the namespace or a socket can't be made.
    """

    def __init__(self) -> None:
        self._nsid_by_inode: dict[int, int] = {}  # inode -> nsid
        self._inode_by_nsid: dict[int, int] = {}  # nsid -> inode
        self._open_commits: dict[int, _OpenCommit] = {}  # nsid -> commit in progress
        self._last_nsid = 0
        self._has_overflowed = False  # overflowed, and not read to the end since
        # Without the capability the kernel skips messages of other namespaces, without an error.
        with open("/proc/thread-self/status") as status:
            (effective,) = (line.split()[1] for line in status if line.startswith("CapEff:"))
        if not int(effective, 16) >> _CAP_NET_BROADCAST & 1:
            raise OSError(errno.EPERM, "CAP_NET_BROADCAST is missing; run it as root of the host")
        self._nft_socket, self._nsid_socket, self._request_socket = run_in_new_namespace(
            _make_sockets
        )

    def close(self) -> None:
        """Close the sockets, and with them their namespace."""
        for each in (self._nft_socket, self._nsid_socket, self._request_socket):
            each.close()

    def filenos(self) -> tuple[int, int]:
        """Return the descriptors to poll for POLLIN."""
        return self._nft_socket.fileno(), self._nsid_socket.fileno()

    def subscribe(self, inode: int, descriptor: int) -> bool:
        """Subscribe to a namespace; False if that is done already.

        Args:
            inode: of the namespace.
            descriptor: of the namespace; not kept.

        Raises:
            OSError: RTM_NEWNSID failed.
        """
        if inode in self._nsid_by_inode:
            return False
        self._last_nsid += 1
        self._request(
            _NEWNSID, self._last_nsid, encode_attribute(_FD, struct.pack("=I", descriptor))
        )
        self._nsid_by_inode[inode] = self._last_nsid
        self._inode_by_nsid[self._last_nsid] = inode
        return True

    def _request(self, kind: int, nsid: int, extra: bytes = b"") -> None:
        body = _RTGENMSG + encode_attribute(_NSID, struct.pack("=i", nsid)) + extra
        size = _HEADER.size + len(body)
        self._request_socket.send(_HEADER.pack(size, kind, _REQUEST_ACK, nsid, 0) + body)
        reply_type = 0
        while reply_type != _ERROR:  # NLMSG_ERROR is the ACK too, with code 0
            reply = self._request_socket.recv(_RECV_SIZE)
            reply_type = _HEADER.unpack_from(reply)[1]
        code = -struct.unpack_from("=i", reply, _HEADER.size)[0]
        if code:
            raise OSError(code, os.strerror(code))

    def read(self) -> Changes:
        """Return changes since the last call, up to a limit; never waits.

        Raises:
            OSError: a socket failed, other than by an overflow.
        """
        # Deletions last: changes before a deletion are of the deleted namespace.
        commits, generations, is_drained = self._read_commits()
        has_overflowed = self._has_overflowed
        if has_overflowed and is_drained:
            # After an overflow the kernel queues nothing until all is read (NETLINK_S_CONGESTED):
            # the ends of these commits will not come.
            self._open_commits.clear()
            self._has_overflowed = False
        deleted = self._read_deletions()
        for inode in deleted:
            nsid = self._nsid_by_inode.pop(inode)
            del self._inode_by_nsid[nsid]
            self._open_commits.pop(nsid, None)
        return Changes(
            commits,
            generations,
            deleted,
            has_overflowed,
            bool(self._open_commits) or not is_drained,
        )

    def _read_commits(self) -> tuple[dict[int, list[Commit]], dict[int, int], bool]:
        """Return ``commits`` and ``generations`` of Changes, and whether all was read."""
        commits: dict[int, list[Commit]] = {}
        generations: dict[int, int] = {}
        for _ in range(_MAX_DATAGRAMS):
            try:
                datagram, extra, _, _ = self._nft_socket.recvmsg(_RECV_SIZE, 64)
            except BlockingIOError:
                return commits, generations, True
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._has_overflowed = True
                continue
            for nsid in _source_nsids(extra):
                if nsid in self._inode_by_nsid:
                    for message in parse_messages(datagram):
                        self._process_message(nsid, message, commits, generations)
        return commits, generations, False

    def _process_message(
        self,
        nsid: int,
        message: Message,
        commits: dict[int, list[Commit]],
        generations: dict[int, int],
    ) -> None:
        if message.kind == NEW_GENERATION:
            open_commit = self._open_commits.pop(nsid, None)
            generations[self._inode_by_nsid[nsid]] = parse_generation(message)
            if open_commit:
                commit = Commit(
                    parse_generation(message), open_commit.new_rules & open_commit.deleted_rules
                )
                commits.setdefault(self._inode_by_nsid[nsid], []).append(commit)
        elif message.kind in _RULESET_MESSAGES:
            _add_message(
                self._open_commits.setdefault(nsid, _OpenCommit(set(), set(), set())), message
            )

    def _read_deletions(self) -> set[int]:
        found: set[int] = set()
        while True:
            try:
                datagram = self._nsid_socket.recv(_RECV_SIZE)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.update(
                    inode
                    for inode, known_nsid in self._nsid_by_inode.items()
                    if not self._nsid_exists(known_nsid)
                )
                continue
            size, kind, *_ = _HEADER.unpack_from(datagram)
            if kind == _DELNSID:
                body = datagram[_HEADER.size + len(_RTGENMSG) : size]
                (nsid,) = struct.unpack("=i", dict(parse_attributes(body))[_NSID])
                if nsid in self._inode_by_nsid:
                    found.add(self._inode_by_nsid[nsid])

    def _nsid_exists(self, nsid: int) -> bool:
        try:
            self._request(_GETNSID, nsid)
        except FileNotFoundError:
            return False
        return True


def _make_sockets() -> tuple[socket.socket, socket.socket, socket.socket]:
    nft_socket = NetfilterSocket().socket
    nft_socket.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
    _join_group(nft_socket, _NFNLGRP_NFTABLES)
    nsid_socket, request_socket = (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) for _ in "da"
    )
    _join_group(nsid_socket, _RTNLGRP_NSID)
    request_socket.settimeout(_TIMEOUT)
    return nft_socket, nsid_socket, request_socket


def _join_group(listener: socket.socket, group: int) -> None:
    with contextlib.suppress(OSError):  # without the host's CAP_NET_ADMIN: default buffer size
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF)
    # An unbound socket has port ID 0 as the kernel has, and a broadcast skips its sender's port ID.
    listener.bind((0, 0))
    listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    listener.setblocking(False)


def _add_message(commit: _OpenCommit, message: Message) -> None:
    if message.kind not in (DEL_TABLE, NEW_RULE, DEL_RULE):
        return
    found = dict(parse_attributes(message.body))
    table = family_name(message.family), decode_name(found[1])
    if message.kind == DEL_TABLE:
        commit.deleted_tables.add(table)
        return
    rule = RuleKey(*table, int.from_bytes(found[3], "big"))
    if message.kind == DEL_RULE:
        commit.deleted_rules.add(rule)
    elif (
        table not in commit.deleted_tables
    ):  # otherwise of a new table with the name of a deleted one
        commit.new_rules.add(rule)


def _source_nsids(extra: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the nsid of the namespace that a message came from, from its control messages."""
    return [
        struct.unpack("=i", data)[0]
        for level, kind, data in extra
        if (level, kind) == (_SOL_NETLINK, _LISTEN_ALL_NSID)
    ]
