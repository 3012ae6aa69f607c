"""Bytes from a bus -> messages.

Every user of a bus can send anybody a signal of 32 MiB (dbus-daemon(1), max_message_size), which in Python would become
some hundred megabytes and take seconds. So a message's head is read first, and its body only if somebody wants it;
one that is too large is thrown away as it comes. The bus itself vouches for a head's sender.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jeepney import Header, HeaderFields, Message, MessageType
from jeepney.low_level import parse_signature

from local_agent.dbus import BusError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXED_BYTES = 16
_MAX_HEAD_BYTES = 1 << 16
_ALIGNMENT = 8
_ORDER = {ord("l"): "<", ord("B"): ">"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that came: its head, and its bytes, of which a message that is too large has none."""

    header: Header
    _bytes: bytes | None
    _body_at: int

    @property
    def is_signal(self) -> bool:
        """Whether nobody has asked for it."""
        return bool(self.header.message_type is MessageType.signal)

    @property
    def reply_to(self) -> int:
        """The serial of the call that it answers, 0 where it answers none."""
        is_answer = self.header.message_type in (MessageType.method_return, MessageType.error)
        return int(self.header.fields.get(HeaderFields.reply_serial, 0)) if is_answer else 0

    @property
    def sender(self) -> str:
        """The unique name of who has sent it, as the bus tells it."""
        return str(self.header.fields.get(HeaderFields.sender, ""))

    @property
    def member(self) -> str:
        """The name of the signal."""
        return str(self.header.fields.get(HeaderFields.member, ""))

    def message(self) -> Message:
        """Return it whole. Raise BusError where it is too large, or no message."""
        if self._bytes is None:
            raise BusError("an answer is too large")
        try:
            return Message(self.header, self._body(self._bytes))
        except Exception as error:
            raise BusError(f"an answer is not understood: {error!r}") from error

    def _body(self, data: bytes) -> tuple[Any, ...]:
        signature = self.header.fields.get(HeaderFields.signature)
        if signature is None:
            return ()
        body: tuple[Any, ...] = _type_of(signature).parse_data(data, self._body_at, self.header.endianness)[0]
        return body


class Frames:
    """Takes apart what a bus sends."""

    def __init__(self, max_message_bytes: int) -> None:
        """`max_message_bytes`: of a larger message only the head is kept. At least 65536."""
        self._max_bytes = max_message_bytes
        self._buffer = bytearray()
        self._to_skip = 0

    def feed(self, data: bytes) -> Iterator[Incoming]:
        """Given what came next, return the messages that are whole by it. Raise BusError where it is no D-Bus.

        A message whose head is not understood is thrown away: the bus lets some through that say more than they may.
        """
        self._buffer += data
        while self._skipped() and len(self._buffer) >= _FIXED_BYTES:
            head_bytes, whole_bytes = _sizes(self._buffer)
            is_too_large = whole_bytes > self._max_bytes
            wanted = min(head_bytes, _MAX_HEAD_BYTES) if is_too_large else whole_bytes
            if len(self._buffer) < wanted:
                return
            taken = bytes(self._buffer[:wanted])
            del self._buffer[:wanted]
            self._to_skip = whole_bytes - wanted
            if head_bytes <= _MAX_HEAD_BYTES and (incoming := _read(taken, is_too_large=is_too_large)):
                yield incoming

    def _skipped(self) -> bool:
        """Throw away what is left of a message that is too large. Return whether nothing of it is to come any more."""
        count = min(self._to_skip, len(self._buffer))
        del self._buffer[:count]
        self._to_skip -= count
        return self._to_skip == 0


def _sizes(buffer: bytearray) -> tuple[int, int]:
    """Return how long a message's head is, and the whole of it."""
    order = _ORDER.get(buffer[0])
    if order is None:
        raise BusError("what comes from the bus is no D-Bus")
    body_bytes, fields_bytes = struct.unpack_from(f"{order}I4xI", buffer, 4)
    head_bytes = -(-(_FIXED_BYTES + fields_bytes) // _ALIGNMENT) * _ALIGNMENT
    return head_bytes, head_bytes + body_bytes


def _read(data: bytes, *, is_too_large: bool) -> Incoming | None:
    try:
        header, body_at = Header.from_buffer(data)
    except Exception:  # whatever jeepney meets in it
        return None
    return Incoming(header, None if is_too_large else data, body_at)


@functools.lru_cache(maxsize=64)
def _type_of(signature: str) -> Any:  # noqa: ANN401 - jeepney's own
    return parse_signature(list(f"({signature})"))
