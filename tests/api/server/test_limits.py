"""Clients that are slow, idle, many or large: what they hold of the server is bounded, and given back."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api.server.hosted import SECONDS, Echo, Hosted, ended, hosted
from local_agent.server.asking.auth import Keys
from local_agent.server.asking.request import Asked
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds.limits import Limits
from local_agent.server.http.callers import Callers
from local_agent.server.http.web import Site, WebServer
from support.api import Api
from support.api_client import wait_until
from support.load import Client, Question
from support.shapes import GOOD, post

MIB = 1024 * 1024
QUICK = Limits(receive_seconds=0.4, idle_seconds=0.4, farewell_seconds=0.1)
# Far from what a loaded machine needs, and far from never.
NET_SECONDS = 30


def trickles(server: Hosted, begun: bytes, piece: bytes) -> float:
    """Send a byte now and again until the server hangs up, and return how long that took."""
    began = time.monotonic()
    with server.connect() as connection:
        connection.sendall(begun)
        try:
            while time.monotonic() - began < NET_SECONDS:
                connection.sendall(piece)
                time.sleep(0.05)
        except ConnectionError:
            pass
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"", b"P"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        (post(length=b"Content-Length: 1000000\r\n", body=b"{"), b" "),
    ],
)
def test_a_request_has_its_time_in_all_and_not_for_each_byte(begun: bytes, piece: bytes) -> None:
    with hosted(QUICK) as server:
        assert trickles(server, begun, piece) < NET_SECONDS


@pytest.mark.parametrize("sent", [b"", GOOD, b"POST /"])
def test_a_silent_connection_is_closed(sent: bytes) -> None:
    with hosted(QUICK) as server, server.connect() as connection:
        connection.sendall(sent)
        assert ended(connection)


def test_a_connection_in_use_is_kept() -> None:
    with hosted(QUICK) as server, server.connect() as connection:
        for _ in range(8):
            time.sleep(0.2)  # twice the bound in all
            connection.sendall(GOOD)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_answers_that_are_not_taken_are_dropped() -> None:
    limits = Limits(bytes_in_all=16 * MIB)
    with hosted(limits, Echo(lambda _: "x" * 4 * MIB)) as server, ExitStack() as stack:
        for _ in range(12):
            connection = stack.enter_context(server.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(GOOD)
        taken = stack.enter_context(server.connect())
        taken.sendall(GOOD)
        assert b"x" * 1000 in taken.recv(65_536)


def test_whoever_asks_on_without_taking_answers_is_not_asked_for_more() -> None:
    engine = Echo(lambda _: "x" * MIB)
    with hosted(Limits(), engine) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(50):
            connection.sendall(GOOD)
        wait_until(lambda: bool(engine.batches), lambda: "nothing is answered")
        time.sleep(0.5)
        assert len(engine.batches) < 20


@pytest.mark.parametrize("limits", [Limits(connections=10), Limits(connections_of_a_client=10)])
def test_where_there_are_too_many_those_go_that_never_asked(limits: Limits) -> None:
    with hosted(limits) as server, ExitStack() as stack:
        known = stack.enter_context(server.connect())
        known.sendall(GOOD)
        assert known.recv(65_536)
        silent = [stack.enter_context(server.connect()) for _ in range(30)]
        assert ended(silent[0])
        for connection in (known, silent[-1]):
            connection.sendall(GOOD)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert len(server.said) == 1
        assert "those that are silent for longest are closed" in server.said[0]


def test_large_bodies_wait_for_room() -> None:
    limits = Limits(body_bytes=MIB, bytes_in_all=2 * MIB, small_bytes=1000)
    large = post(length=b"Content-Length: %d\r\n" % MIB, body=b"x" * (MIB - 1))
    with hosted(limits) as server, ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(6)]
        for connection in waiting:
            connection.sendall(large[:60_000])
        small = stack.enter_context(server.connect())
        small.sendall(GOOD)
        assert small.recv(65_536).startswith(b"HTTP/1.1 200 ")
        for connection in waiting:
            connection.sendall(large[60_000:] + b"x")
        for connection in waiting:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def slow_answer(_asked: Asked) -> str:
    """Take long enough for others to come meanwhile."""
    time.sleep(0.05)
    return "{}"


def test_requests_that_come_together_are_answered_together() -> None:
    engine = Echo(slow_answer)
    with hosted(Limits(), engine) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(20)]
        for connection in connections:
            connection.sendall(GOOD)
        for connection in connections:
            assert connection.recv(65_536)
        assert len(engine.batches) < 20


def test_what_takes_long_is_answered_beside_the_others() -> None:
    engine = Echo(slowly=True)
    with hosted(Limits(), engine) as server, server.connect() as connection:
        connection.sendall(GOOD)
        assert connection.recv(65_536).endswith(b'{"query": "{ hello }"}')


def test_counters_are_of_the_agents_heard_of_last() -> None:
    stats = Stats(most_agents=10)
    for number in range(100):
        stats.count({"x-prefect-agent-id": f"agent-{number}"}, ["hello"])
    counters = stats.as_json()
    assert (counters["requests"], counters["operations"]) == (100, {"hello": 100})
    assert set(counters["agents"]) == {f"agent-{number}" for number in range(90, 100)}


def resident_mb(api: Api) -> float:
    """Return the memory of the API's process."""
    pages = int(Path(f"/proc/{api.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Api]:
    """An API that asks for a key, and has answered often enough to have all that it needs."""
    with Api(tmp_path / "server.db", key="s3cr3t") as api:
        with Client(api.url) as client:
            for _ in range(200):
                client.exchange(client.rendered(Question("{ hello }")))
        yield api


def test_strangers_leave_no_memory_behind(keyed: Api) -> None:
    before = resident_mb(keyed)
    for number in range(3000):
        name = f"X-PREFECT-AGENT-ID: {number:030}{'x' * (30 if number % 2 else 5_000)}\r\n"
        with connected(keyed) as connection:
            connection.sendall(post(name.encode()))
            connection.recv(1000)
    assert resident_mb(keyed) - before < 20


def test_bodies_that_never_end_leave_no_memory_behind(keyed: Api) -> None:
    size = Limits().body_bytes
    key = b"Authorization: Bearer s3cr3t\r\n"
    never_ends = post(key, length=b"Content-Length: %d\r\n" % size, body=b"x" * (size - 1))
    before = resident_mb(keyed)
    with ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(connected(keyed))
            connection.settimeout(0.2)
            with suppress(TimeoutError):  # it waits for room
                connection.sendall(never_ends)
        assert resident_mb(keyed) - before < 100
        assert keyed.graphql("{ hello }")
    wait_until(lambda: resident_mb(keyed) - before < 20, lambda: f"{resident_mb(keyed) - before} MB more")


@pytest.mark.timeout(300)
def test_large_documents_leave_no_memory_behind(keyed: Api) -> None:
    before = resident_mb(keyed)
    for number in range(10):
        names = " ".join(f"n{number}_{field}: name" for field in range(1900))
        keyed.post({"query": f"{{ flow {{ {names} }} }}"})
        ids = ", ".join(f"{number}{name:05}" for name in range(6000))
        keyed.post({"query": f"{{ flow(where: {{ version: {{ _in: [{ids}] }} }}) {{ id }} }}"})
    wait_until(lambda: resident_mb(keyed) - before < 20, lambda: f"{resident_mb(keyed) - before} MB more")


def connected(api: Api) -> socket.socket:
    """Return a new connection."""
    return socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=60)


def test_no_descriptor_for_one_more_connection(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api, ExitStack() as opened:
        open_files = len(list(Path(f"/proc/{api.pid}/fd").iterdir()))
        resource.prlimit(api.pid, resource.RLIMIT_NOFILE, (open_files + 4, open_files + 4))
        for _ in range(20):
            opened.enter_context(socket.create_connection(("127.0.0.1", urlsplit(api.url).port), timeout=60))
        # Who is silent gives way, a few every second, and so who asks is answered.
        assert api.graphql("{ hello }") == {"hello": "👋"}
        assert api.console.count("a connection cannot be taken: Too many open files") == 1
        assert "Traceback" not in api.console
        assert api.console.count("\n") <= 3


async def test_who_connects_as_the_server_stops_has_an_answer() -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stats = Stats()
        callers = Callers(frozenset(("127.0.0.1",)))
        web = WebServer(Site(Echo(), Keys(None), stats, callers, said.append, Limits(first_request_seconds=SECONDS)))
        await web.listen(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        while not stats.as_json()["connections"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        stopping = asyncio.create_task(web.close(SECONDS))
        await asyncio.sleep(0)
        writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await stopping
    assert said == []
