"""What a bus sends is taken apart within bounds, and what is wrong with one message is wrong with no other."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc

import pytest
from jeepney import DBusAddress, HeaderFields, new_signal

from local_agent.dbus import BusError
from local_agent.dbus.frames import Frames, Incoming
from support.fake_bus import STRANGER, job_removed

_MAX_BYTES = 1 << 16


def _signal(result: str, sender: str = ":1.1") -> bytes:
    message = job_removed(result)
    message.header.fields[HeaderFields.sender] = sender
    return bytes(message.serialise(serial=1))


def _large(size: int) -> bytes:
    message = new_signal(DBusAddress("/x", interface="x.y"), "Large", "ay", (b"x" * size,))
    message.header.fields[HeaderFields.sender] = STRANGER
    return bytes(message.serialise(serial=2))


def _fed(frames: Frames, data: bytes, step: int = 1 << 30) -> list[Incoming]:
    return [one for at in range(0, len(data), step) for one in frames.feed(data[at : at + step])]


def _results(messages: list[Incoming]) -> list[str]:
    return [one.message().body[3] for one in messages]


@pytest.mark.parametrize("step", [1, 7, 16, 100, 1 << 20])
def test_messages_come_whole_however_they_arrive(step: int) -> None:
    data = _signal("done") + _signal("failed") + _signal("canceled")
    assert _results(_fed(Frames(_MAX_BYTES), data, step)) == ["done", "failed", "canceled"]


@pytest.mark.parametrize("step", [1000, 65536])
def test_of_a_message_that_is_too_large_the_head_is_left(step: int) -> None:
    large, last = _fed(Frames(_MAX_BYTES), _large(_MAX_BYTES) + _signal("done"), step)
    assert (large.sender, large.member, large.is_signal) == (STRANGER, "Large", True)
    with pytest.raises(BusError, match="too large"):
        large.message()
    assert _results([last]) == ["done"]


def test_it_is_thrown_away_as_it_comes() -> None:
    frames, chunk = Frames(_MAX_BYTES), b"x" * 65536
    head = _large(0)[:4] + struct.pack("<I", 1 << 26) + _large(0)[8:-4]
    tracemalloc.start()
    try:
        for data in (head, *(chunk for _ in range(1 << 10))):
            assert all(one.is_signal for one in frames.feed(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert _results(_fed(frames, _signal("done"))) == ["done"]


def test_a_head_that_is_too_large_is_thrown_away() -> None:
    message = job_removed("done")
    message.header.fields[HeaderFields.path] = "/" + "x" * (1 << 17)
    assert _results(_fed(Frames(_MAX_BYTES), bytes(message.serialise(serial=3)) + _signal("failed"))) == ["failed"]


@pytest.mark.parametrize(
    ("at", "byte"),
    [
        (1, 0),  # no type of a message
        (1, 9),
        (16, 77),  # no field that there is
        (18, 0xFF),  # no type of a value
        (30, 0xFF),  # no UTF-8
    ],
)
def test_a_head_that_is_not_understood_spoils_no_other_message(at: int, byte: int) -> None:
    wrong = bytearray(_signal("done"))
    wrong[at] = byte
    last = _fed(Frames(_MAX_BYTES), bytes(wrong) + _signal("failed"))[-1]
    assert _results([last]) == ["failed"]


def test_a_body_that_is_not_understood_is_the_one_who_reads_its() -> None:
    wrong = bytearray(_signal("done"))
    wrong[-1] = 0xFF
    first, last = _fed(Frames(_MAX_BYTES), bytes(wrong) + _signal("failed"))
    with pytest.raises(BusError, match="not understood"):
        first.message()
    assert _results([last]) == ["failed"]


def test_what_is_no_dbus_is_said() -> None:
    with pytest.raises(BusError, match="no D-Bus"):
        _fed(Frames(_MAX_BYTES), b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_whatever_comes_nothing_else_is_raised() -> None:
    for seed in range(2000):
        chance = random.Random(seed)
        data = bytearray(_signal("done") + _large(100) + _signal("failed"))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(BusError):
            for one in _fed(Frames(_MAX_BYTES), bytes(data), chance.choice((1, 50, 1000))):
                with contextlib.suppress(BusError):
                    one.message()
