"""NETLINK_NETFILTER for nf_tables: messages, dumps and batches.

Layouts and numbers are those of linux/netlink.h, linux/netfilter/nfnetlink.h and
linux/netfilter/nf_tables.h. Integers inside attributes are in network byte order.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROTOCOL = 12  # NETLINK_NETFILTER
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 16, 17
_REQUEST, _ACK, _DUMP, _DUMP_INTR = 0x1, 0x4, 0x300, 0x10
_CREATE = 0x400
_NESTED = 0x8000
_RECV_SIZE = 1 << 18
_TIMEOUT = 10  # seconds; usually the kernel replies immediately

NEW_TABLE, GET_TABLE, DEL_TABLE = 0, 1, 2
NEW_CHAIN, GET_CHAIN, DEL_CHAIN = 3, 4, 5
NEW_RULE, GET_RULE, DEL_RULE = 6, 7, 8
NEW_GENERATION, GET_GENERATION = 15, 16
INET = 1  # NFPROTO_INET


class Message(NamedTuple):
    """One nf_tables message.

    Args:
        kind: ``enum nf_tables_msg_types``.
        family: ``NFPROTO_*``.
        body: its attributes, encoded.
    """

    kind: int
    family: int
    body: bytes


def encode_attribute(kind: int, value: bytes | str | int) -> bytes:
    """Encode one attribute.

    Args:
        kind: ``NFTA_*``.
        value: a string, encoded with a final NUL; a u32; or bytes as they are.
    """
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("!I", value)
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def encode_nested(kind: int, *inner: bytes) -> bytes:
    """Encode an attribute ``kind`` that contains the encoded attributes ``inner``."""
    return encode_attribute(kind | _NESTED, b"".join(inner))


def parse_attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ``NFTA_*`` and value of each attribute in ``body``."""
    at, end = 0, len(body)
    while at + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        yield kind & 0x3FFF, body[at + _ATTRIBUTE.size : at + size]
        at += (max(size, _ATTRIBUTE.size) + 3) & ~3


def parse_messages(datagram: bytes) -> Iterator[Message]:
    """Yield the nf_tables messages in a datagram."""
    for _, kind, _, payload in _split_messages(datagram):
        if kind >> 8 == _SUBSYSTEM:
            yield Message(kind & 0xFF, payload[0], payload[_NFGENMSG.size :])


def _split_messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield sequence number, type, flags and payload of each message."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
        yield sequence, kind, flags, datagram[at + _HEADER.size : at + size]
        at += (max(size, _HEADER.size) + 3) & ~3


def _encode_message(
    kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes
) -> bytes:
    payload = _NFGENMSG.pack(family, 0, resource) + body
    size = _HEADER.size + len(payload)
    return _HEADER.pack(size, kind, flags | _REQUEST, sequence, 0) + payload


def parse_generation(message: Message) -> int:
    """Return the generation id in a message of kind ``NEW_GENERATION``."""
    return int.from_bytes(dict(parse_attributes(message.body))[1], "big")  # NFTA_GEN_ID


class NetfilterSocket:
    """A NETLINK_NETFILTER socket, in the network namespace of the thread that creates it.

    Raises:
        OSError: EPROTONOSUPPORT if the kernel has no nfnetlink.
    """

    def __init__(self) -> None:
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL
        )
        self.socket.settimeout(_TIMEOUT)
        self._sequence = 0

    def __enter__(self) -> NetfilterSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def generation(self) -> int:
        """Return the generation id of the ruleset (u32), incremented by every commit.

        Raises:
            OSError: EPERM without CAP_NET_ADMIN; EOPNOTSUPP or EINVAL without nf_tables.
        """
        for message in self._request(GET_GENERATION, 0):
            return parse_generation(message)
        raise OSError(71, os.strerror(71))  # EPROTO

    def dump(self, kind: int, *, consistent: bool = True) -> list[Message]:
        """Return all tables, chains or rules of all families, in the ruleset's order.

        Args:
            kind: ``GET_TABLE``, ``GET_CHAIN`` or ``GET_RULE``.
            consistent: require a consistent snapshot. If false and the ruleset changes during the
                dump, even unchanged objects may be missing or appear twice.

        Raises:
            InterruptedError: ``consistent``, and the ruleset changed meanwhile (NLM_F_DUMP_INTR).
            OSError: as of ``parse_generation``.
        """
        return self._request(kind, _DUMP, consistent)

    def _request(self, kind: int, flags: int, consistent: bool = False) -> list[Message]:
        """Send a request; return its replies.

        A dump must be read to its end: until then the kernel starts no other one on this socket
        (EBUSY).
        """
        self._sequence += 1
        self.socket.send(
            _encode_message(_SUBSYSTEM << 8 | kind, flags or _ACK, self._sequence, 0, 0, b"")
        )
        replies: list[Message] = []
        interrupted = False
        while True:
            for sequence, message_type, status, payload in _split_messages(self._receive()):
                if sequence != self._sequence:
                    continue
                interrupted |= bool(status & _DUMP_INTR)
                if message_type in (_DONE, _ERROR):
                    _raise_error(payload)
                    if interrupted and consistent:
                        raise InterruptedError(4, os.strerror(4))
                    return replies
                replies.append(Message(message_type & 0xFF, payload[0], payload[_NFGENMSG.size :]))

    def create(self, new_objects: Sequence[Message]) -> None:
        """Create tables, chains and rules in one transaction: all of them or none.

        Args:
            new_objects: ``NEW_*`` messages, in this order.

        Raises:
            OSError: errno of the first message that the kernel rejected.
        """
        first = self._sequence + 1
        batch = [_encode_message(_BATCH_BEGIN, 0, first, 0, _SUBSYSTEM, b"")]
        for sequence, new_object in enumerate(new_objects, first + 1):
            kind = _SUBSYSTEM << 8 | new_object.kind
            batch.append(
                _encode_message(
                    kind, _ACK | _CREATE, sequence, new_object.family, 0, new_object.body
                )
            )
        self._sequence = first + len(new_objects) + 1
        batch.append(_encode_message(_BATCH_END, 0, self._sequence, 0, _SUBSYSTEM, b""))
        self.socket.send(b"".join(batch))
        done = 0
        while done < len(new_objects):
            for _, kind, _, payload in _split_messages(self._receive()):
                if kind == _ERROR:
                    _raise_error(payload)
                    done += 1

    def wait_for_commit(self) -> None:
        """Wait until a commit in progress has ended: until all notifications of it were sent.

        An empty batch waits for the commit mutex (``nf_tables_valid_genid()`` of
        net/netfilter/nf_tables_api.c), which a commit holds until it has notified. It changes
        nothing, and ``nf_tables_commit()`` doesn't count it.

        Raises:
            OSError: ENOBUFS, as of send(2).
        """
        self.create(())

    def _receive(self) -> bytes:
        datagram, _, flags, _ = self.socket.recvmsg(_RECV_SIZE)
        if flags & socket.MSG_TRUNC:
            raise OSError(90, os.strerror(90))  # EMSGSIZE
        return datagram


def _raise_error(payload: bytes) -> None:
    """Raise the errno in ``struct nlmsgerr`` or in NLMSG_DONE, if it isn't 0."""
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code:
        raise OSError(code, os.strerror(code))
