"""The agent's client and the broker's server, with each other: greeting, answers, ends, reconnecting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from local_agent.broker.callers import Caller, Process
from local_agent.broker.protocol import Code, RefusedError, Request, Verb
from local_agent.broker.server import Server
from local_agent.errors import ManagerUnreachableError
from local_agent.limits import Limits
from local_agent.systemd import ScopeRequest, ScopeStatus
from local_agent.systemd.broker_client import BrokerScopeManager

RUN = "c0ffee00-0000-4000-8000-000000000000"
UNIT = f"flow-run-{RUN}.scope"
SECONDS = 60

CarryOut = Callable[[Caller, Request], Awaitable[dict[str, Any]]]


class Reads:
    """Stands in for the system bus, which the client reads from."""

    def __init__(self) -> None:
        self.now: ScopeStatus | None = None

    async def status(self, _unit: str) -> ScopeStatus | None:
        return self.now

    async def close(self) -> None:
        """Nothing to close."""


def _as_agent(_connection: socket.socket) -> Caller:
    own = Process(os.getpid())
    return Caller(own, os.getuid(), own.cgroup(), "prod1")


async def _prove(_caller: Caller) -> None:
    """Every caller is its service's main process."""


def _as_stranger(_connection: socket.socket) -> Caller:
    raise RefusedError(Code.NOT_ALLOWED, "who are you?")


@dataclass
class Serving:
    """A broker's server that runs beside the test."""

    server: Server
    running: asyncio.Task[None]


@contextlib.asynccontextmanager
async def _serving(
    path: Path, carry_out: CarryOut, identify: Callable[[socket.socket], Caller] = _as_agent, idle_seconds: float = 600
) -> AsyncIterator[Serving]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - in a coroutine, and quick
        listener.bind(str(path))
        listener.listen()
        server = Server(listener, carry_out, _prove, lambda _: None, idle_seconds, identify)
        serving = Serving(server, asyncio.create_task(server.run()))
        yield serving
        server.stop()
        async with asyncio.timeout(SECONDS):
            await serving.running


@contextlib.asynccontextmanager
async def _client(path: Path, reads: Reads | None = None) -> AsyncIterator[BrokerScopeManager]:
    bus: Any = reads or Reads()
    client = BrokerScopeManager(path, bus)
    yield client
    await client.close()


def _request(description: str, limits: Limits) -> ScopeRequest:
    return ScopeRequest(
        unit=UNIT,
        slice="ignored.slice",
        pid=12345,
        description=description,
        after="",
        limits=limits,
        stop_seconds=10.0,
    )


class Recorder:
    """Notes every request and answers it as `answers` says, at the earliest when `gate` is open."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.requests: list[Request] = []
        self.is_full = asyncio.Event()  # as many as are carried out at once
        self.gate = asyncio.Event()
        self.gate.set()
        self._answers = answers

    async def __call__(self, _caller: Caller, request: Request) -> dict[str, Any]:
        self.requests.append(request)
        if len(self.requests) == 32:
            self.is_full.set()
        await self.gate.wait()
        return self._answers.get(request.verb.value, {})


async def test_of_many_that_ask_for_last_lines_most_go_without(tmp_path: Path) -> None:
    """A thousand flow runs that fail in the same moment would each be told after the last lines of the others."""
    recorder = Recorder(tail={"lines": ["one"]})
    recorder.gate.clear()
    async with _serving(tmp_path / "b", recorder), _client(tmp_path / "b") as client:
        asked = [asyncio.create_task(client.last_lines(UNIT, 3)) for _ in range(50)]
        _, waiting = await asyncio.wait(asked, timeout=0.2)
        recorder.gate.set()
        answers = await asyncio.gather(*asked)
        assert len(waiting) == 6
        assert [tuple(lines) for lines in answers].count(("one",)) == 6
        assert [tuple(lines) for lines in answers].count(()) == 44
        assert await client.last_lines(UNIT, 3) == ("one",)


@pytest.mark.parametrize("policy", ["stop", "continue", "kill"])
async def test_an_oom_policy_arrives(tmp_path: Path, policy: str) -> None:
    recorder = Recorder()
    async with _serving(tmp_path / "b", recorder), _client(tmp_path / "b") as client:
        await client.start_scope(replace(_request("a run", Limits()), oom_policy=policy))
    assert [request.oom_policy for request in recorder.requests] == [policy]


async def test_requests_arrive_as_they_were_meant(tmp_path: Path) -> None:
    recorder = Recorder(tail={"lines": ["one", "two"]})
    limits = Limits(memory_max_bytes=1 << 30, cpu_quota_percent=150, tasks_max=7, runtime_max_seconds=1.5, nice=5)
    async with _serving(tmp_path / "b", recorder), _client(tmp_path / "b") as client:
        await client.start_scope(_request("dbus.service\nof \ud800 \x1b[31m" + "x" * 300, limits))
        await client.stop(UNIT)
        await client.kill(UNIT, signal.SIGTERM)
        assert await client.last_lines(UNIT, 3) == ("one", "two")
    first = recorder.requests[0]
    assert first.oom_policy == "stop"
    assert (first.verb, first.flow_run, first.pid, first.stop_seconds) == (Verb.START, RUN, 12345, 10.0)
    assert first.description.startswith("dbus_service?of ? ?[31mxxx")
    assert dict(first.properties) == {
        "MemoryMax": ("t", 1 << 30),
        "MemorySwapMax": ("t", 0),
        "CPUQuotaPerSecUSec": ("t", 1_500_000),
        "TasksMax": ("t", 7),
        "RuntimeMaxUSec": ("t", 1_500_000),
    }
    verbs = [request.verb for request in recorder.requests[1:]]
    assert verbs == [Verb.STOP, Verb.KILL, Verb.TAIL]
    assert recorder.requests[2].signal == signal.SIGTERM


async def test_only_a_failed_scope_is_reset(tmp_path: Path) -> None:
    recorder, reads = Recorder(), Reads()
    async with _serving(tmp_path / "b", recorder), _client(tmp_path / "b", reads) as client:
        await client.reset_failed(UNIT)
        reads.now = ScopeStatus("inactive", "success")
        await client.reset_failed(UNIT)
        assert recorder.requests == []
        reads.now = ScopeStatus("failed", "timeout")
        await client.reset_failed(UNIT)
    assert [request.verb for request in recorder.requests] == [Verb.RESET_FAILED]


async def test_answers_find_their_requests_out_of_order(tmp_path: Path) -> None:
    async def carry_out(_caller: Caller, request: Request) -> dict[str, Any]:
        await asyncio.sleep(0.2 / request.lines)  # the later asked, the sooner answered
        return {"lines": [str(request.lines)]}

    async with _serving(tmp_path / "b", carry_out), _client(tmp_path / "b") as client:
        answers = await asyncio.gather(*(client.last_lines(UNIT, count) for count in range(1, 7)))
    assert answers == [(str(count),) for count in range(1, 7)]


async def test_a_refusal_is_said_in_the_brokers_words(tmp_path: Path) -> None:
    async def refuse(_caller: Caller, _request: Request) -> dict[str, Any]:
        raise RefusedError(Code.NOT_YOURS, "it is another's")

    async with _serving(tmp_path / "b", refuse), _client(tmp_path / "b") as client:
        with pytest.raises(ManagerUnreachableError, match="it is another's"):
            await client.stop(UNIT)


async def test_a_stranger_is_told_so(tmp_path: Path) -> None:
    async with _serving(tmp_path / "b", Recorder(), _as_stranger), _client(tmp_path / "b") as client:
        with pytest.raises(ManagerUnreachableError, match="who are you"):
            await client.stop(UNIT)


async def test_no_broker_is_said_with_what_to_look_at(tmp_path: Path) -> None:
    async with _client(tmp_path / "nobody") as client:
        with pytest.raises(ManagerUnreachableError, match="nobody") as raised:
            await client.stop(UNIT)
    assert "systemctl status local-agent-broker" in raised.value.hint


async def test_an_idle_broker_ends_and_the_next_one_is_found(tmp_path: Path) -> None:
    async with _client(tmp_path / "b") as client:
        for _ in range(3):
            recorder = Recorder()
            async with _serving(tmp_path / "b", recorder, idle_seconds=0.2) as serving:
                await client.stop(UNIT)
                async with asyncio.timeout(SECONDS):
                    await asyncio.shield(serving.running)
            assert len(recorder.requests) == 1


async def test_a_broker_that_is_told_to_end_answers_what_it_took(tmp_path: Path) -> None:
    """And the client brings what this one takes no more to the next: each request is carried out exactly once."""
    first, second = Recorder(), Recorder()
    first.gate.clear()
    path = tmp_path / "b"
    async with _client(path) as client, _serving(path, first) as serving:
        asked = [asyncio.create_task(client.stop(UNIT)) for _ in range(50)]
        async with asyncio.timeout(SECONDS):
            await first.is_full.wait()
            serving.server.stop()
            async with _serving(path, second):
                while not second.requests:
                    asked.append(asyncio.create_task(client.stop(UNIT)))
                    await asyncio.sleep(0)
                first.gate.set()
                await asyncio.gather(*asked)
    assert len(first.requests) + len(second.requests) == len(asked)


async def test_a_broker_that_dies_leaves_nobody_waiting(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "b"))
        listener.listen()
        async with _client(tmp_path / "b") as client:
            asked = asyncio.create_task(client.stop(UNIT))
            loop = asyncio.get_running_loop()
            listener.settimeout(0.0)
            connection, _ = await loop.sock_accept(listener)
            await loop.sock_sendall(connection, b'{"hello": "x"}')
            assert await loop.sock_recv(connection, 4096) == b'{"hello":"x"}'
            assert b'"stop"' in await loop.sock_recv(connection, 4096)
            connection.close()
            with pytest.raises(ManagerUnreachableError, match="hung up"):
                await asked
