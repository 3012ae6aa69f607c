"""Writing to readers who do not read: nobody waits, nothing is out of order, what is lost is counted and said."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time

from local_agent.aio.outbox import DescriptorSink, Outbox, complaints_never_block, write_within
from support.api_client import wait_until
from support.sinks import Taker


def _notice(count: int, reason: str) -> bytes:
    return f"[{count} lost while {reason}]".encode()


def test_messages_are_written_in_their_order() -> None:
    sink = Taker()
    outbox = Outbox(sink, _notice)
    for number in range(1000):
        outbox.put(b"%d " % number)
    assert outbox.close(60) == 0
    assert sink.text.split() == [str(number) for number in range(1000)]


def test_what_waits_for_a_stream_is_written_together() -> None:
    sink = Taker()
    sink.hold()
    outbox = Outbox(sink, _notice)
    outbox.put(b"first,")
    wait_until(lambda: sink.tries == 1, lambda: "it was not tried")
    for number in range(100):
        outbox.put(b"%d " % number)
    sink.release()
    assert outbox.close(60) == 0
    assert len(sink.taken) == 2


def test_what_waits_for_anything_else_is_written_one_by_one() -> None:
    sink = Taker(is_stream=False)
    sink.hold()
    outbox = Outbox(sink, _notice)
    for number in range(100):
        outbox.put(b"%d " % number)
    sink.release()
    assert outbox.close(60) == 0
    assert sink.taken == [b"%d " % number for number in range(100)]


def test_what_finds_no_place_is_counted_and_said_in_its_place() -> None:
    sink = Taker()
    sink.hold()
    outbox = Outbox(sink, _notice, most_bytes=10)
    for _ in range(8):
        outbox.put(b"12345")  # two find a place
    sink.release()
    wait_until(lambda: "lost" in sink.text, lambda: sink.text)
    outbox.put(b"after")
    assert outbox.close(60) == 0
    assert sink.text == "1234512345[6 lost while the reader did not read]after"


def test_what_was_lost_is_said_though_nobody_says_anything_more() -> None:
    sink = Taker()
    sink.hold()
    outbox = Outbox(sink, _notice, most_bytes=5)
    outbox.put(b"12345")
    outbox.put(b"lost")
    sink.release()
    wait_until(lambda: "[1 lost" in sink.text, lambda: sink.text)
    outbox.close(60)


def test_an_error_is_tried_again_and_named_with_what_it_cost() -> None:
    sink = Taker()
    sink.error = OSError(errno.ENOSPC, "No space left on device")
    outbox = Outbox(sink, _notice, most_bytes=5)
    outbox.put(b"12345")
    wait_until(lambda: sink.tries > 1, lambda: "it was not tried again")
    outbox.put(b"lost")
    sink.error = None
    wait_until(lambda: "lost" in sink.text, lambda: sink.text)
    outbox.close(60)
    assert sink.text == "12345[1 lost while the reader took none: No space left on device]"


def test_a_message_that_is_too_large_is_lost_alone() -> None:
    sink = Taker()
    sink.error = OSError(errno.EMSGSIZE, "Message too long")
    outbox = Outbox(sink, _notice)
    outbox.put(b"large")
    wait_until(lambda: sink.tries == 1, lambda: "it was not tried")
    wait_until(lambda: outbox.room_bytes == 4 * 1024**2, lambda: "it is still there")
    sink.error = None
    outbox.put(b"small")
    outbox.close(60)
    assert "small" in sink.text
    assert "large" not in sink.text


def test_the_end_waits_for_nobody_who_does_not_read() -> None:
    sink = Taker()
    sink.hold()
    outbox = Outbox(sink, _notice)
    outbox.put(b"one")
    outbox.put(b"two")
    assert outbox.close(0.05) == 2
    outbox.put(b"three")
    sink.release()
    _until_threads_end()


def test_the_end_does_not_wait_where_writing_fails() -> None:
    sink = Taker()
    sink.error = OSError(errno.EIO, "Input/output error")
    outbox = Outbox(sink, _notice)
    outbox.put(b"one")
    began = time.monotonic()
    assert outbox.close(600) >= 1
    assert time.monotonic() - began < 60
    sink.error = None
    _until_threads_end()


def test_a_full_pipe_holds_up_nobody() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(DescriptorSink(writing, "the pipe"), _notice)
    for _ in range(300):
        outbox.put(b"x" * 1000)  # more than the pipe holds
    assert outbox.close(0.05) > 0
    assert _all_of(reading, 300_000) == 300_000
    _until_threads_end()
    os.close(writing)
    os.close(reading)


def test_a_pipe_that_somebody_made_not_to_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    outbox = Outbox(DescriptorSink(writing, "the pipe"), _notice)
    for _ in range(300):
        outbox.put(b"x" * 1000)
    assert _all_of(reading, 300_000) == 300_000
    assert outbox.close(60) == 0
    os.close(writing)
    os.close(reading)


def test_what_python_complains_about_does_not_block_either() -> None:
    reading, writing = os.pipe()
    with complaints_never_block(writing, within_seconds=0.05):
        for number in range(2000):
            print(f"complaint {number} {'x' * 100}", file=sys.stderr, flush=True)
    assert _all_of(reading, 200_000) >= 200_000
    _until_threads_end(reading)
    os.close(writing)
    os.close(reading)


def test_a_last_word_is_given_up_where_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65536)
    os.set_blocking(writing, True)
    write_within(0.05, writing, "error: too late\n")
    _until_threads_end(reading)
    os.close(writing)
    os.close(reading)


def _all_of(descriptor: int, most: int) -> int:
    taken = 0
    while taken < most:
        taken += len(os.read(descriptor, 65536))
    return taken


def _until_threads_end(reading: int | None = None) -> None:
    """Wait for the threads that write; what they still wait for is read from the pipe."""
    if reading is not None:
        os.set_blocking(reading, False)

    def have_ended() -> bool:
        if reading is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 1 << 20)
        return not [thread for thread in threading.enumerate() if thread.name.startswith("write to")]

    wait_until(have_ended, lambda: f"still there: {threading.enumerate()}")
