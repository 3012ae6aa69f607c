"""Asking many things at once, and waiting for the answers no longer than said."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from jeepney import Message, new_method_return

from local_agent.dbus import BusError, SilentBusError
from local_agent.dbus.blocking import MAX_MESSAGE_BYTES, BlockingBus
from local_agent.dbus.calls import manager_call
from support.fake_bus import OWNER, STRANGER, Answer, FakeBus, but, hangs_up, refuses, silent, well


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - descriptors have no paths


def test_answers_come_in_the_order_of_the_questions(tmp_path: Path) -> None:
    asked: list[Message] = []

    def answer(call: Message) -> Message | None:
        asked.append(call)
        if len(asked) == 100:  # none before all are on their way, then backwards and with signals between them
            for one in reversed(asked):
                bus.job_removed(STRANGER, "done")
                bus.send(new_method_return(one, "s", one.body), OWNER)
        return None

    with FakeBus(tmp_path / "bus", but("Ask", answer)) as bus:
        client = BlockingBus(bus.address, 30)
        answers = client.ask([manager_call("Ask", "s", (str(number),)) for number in range(100)], 30)
        client.close()
    assert [answer.body for answer in answers] == [(str(number),) for number in range(100)]


@pytest.mark.parametrize("authenticates", [b"", b"OK 1234"])
def test_a_bus_that_says_nothing_is_not_waited_for(tmp_path: Path, authenticates: bytes) -> None:
    with FakeBus(tmp_path / "bus", authenticates=authenticates) as bus:
        began = time.monotonic()
        with pytest.raises(SilentBusError):
            BlockingBus(bus.address, 0.1)
        assert time.monotonic() - began < 30


def test_a_bus_that_stops_answering_is_not_waited_for(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus", but("Ask", silent)) as bus:
        client = BlockingBus(bus.address, 30)
        with pytest.raises(SilentBusError, match="no answer"):
            client.ask([manager_call("Ask"), manager_call("Other")], 0.1)
        client.close()


def test_a_bus_that_stops_reading_is_not_waited_for(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        client = BlockingBus(bus.address, 30)
        bus.reads.clear()
        with pytest.raises(BusError):
            client.ask([manager_call("Fill", "s", ("x" * 100_000,)) for _ in range(8)], 0.5)
        client.close()


def test_nor_do_signals_without_end_keep_it_waiting(tmp_path: Path) -> None:
    """Each is something to read, and none the answer."""

    def flood(_call: Message) -> None:
        while True:  # until the client hangs up
            bus.job_removed(STRANGER, "done")

    with FakeBus(tmp_path / "bus", but("Ask", flood)) as bus:
        client = BlockingBus(bus.address, 30)
        with pytest.raises(SilentBusError):
            client.ask([manager_call("Ask")], 0.1)
        client.close()


def test_an_answer_that_is_too_large_is_said(tmp_path: Path) -> None:
    large: Answer = lambda call: new_method_return(call, "ay", (b"x" * MAX_MESSAGE_BYTES,))  # noqa: E731
    with FakeBus(tmp_path / "bus", but("Ask", large)) as bus:
        client = BlockingBus(bus.address, 30)
        with pytest.raises(BusError, match="too large"):
            client.ask([manager_call("Ask")], 30)
        client.close()


def test_a_bus_that_is_restarted_is_said(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus", but("Ask", hangs_up)) as bus:
        client = BlockingBus(bus.address, 30)
        with pytest.raises(BusError, match="hung up"):
            client.ask([manager_call("Ask")], 30)
        client.close()


@pytest.mark.parametrize("answer", [but("Hello", refuses), but("Hello", hangs_up), well])
def test_connections_that_fail_leave_nothing(tmp_path: Path, answer: Answer) -> None:
    before = _descriptors()
    with FakeBus(tmp_path / "bus", answer, authenticates=b"REJECTED\r\n" if answer is well else b"OK 1\r\n") as bus:
        for _ in range(100):
            with pytest.raises(BusError):
                BlockingBus(bus.address, 30)
    assert _descriptors() == before
