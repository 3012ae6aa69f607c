"""What listens at --agent-address: whoever looks after the agent may ask, web pages may not, and nobody stops it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.agent_address import Agent, served
from support.shapes import REFUSED, get

PATHS = ("/api/health", "/api/poke", "/metrics")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """One for those tests that leave it as it is."""
    with served() as one:
        yield one


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host: 127.0.0.1:8080",),
        ("Host: [::1]",),
        ("Host: 192.0.2.7:9401", "User-Agent: Prometheus/2.42"),
        (f"Host: {socket.gethostname()}:8080",),
        ("User-Agent: curl/7.88", "Accept: */*"),
        ("Sec-Fetch-Site: none",),
    ],
)
def test_who_may_ask(agent: Agent, headers: tuple[str, ...]) -> None:
    assert [agent.ask(path, *headers)[0] for path in PATHS] == [200, 200, 200]
    assert agent.ask("/", *headers)[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: evil.example",),
        ("Host: evil.example:8080",),
        ("Host: localhost.evil.example",),
        ("Host: ",),
        ("Origin: https://evil.example",),
        ("Origin: null",),
        ("Origin: http://localhost:8080",),
        ("Referer: https://evil.example/",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"),
    ],
)
def test_what_a_page_could_make_a_browser_send(agent: Agent, headers: tuple[str, ...]) -> None:
    before = agent.pokes
    for path in (*PATHS, "/"):
        status, body = agent.ask(path, *headers)
        assert status == 403
        assert set(json.loads(body)) == {"error"}
    assert agent.pokes == before


def test_an_old_browser_does_not_say_where_a_request_comes_from(agent: Agent) -> None:
    before = agent.pokes
    assert agent.ask("/api/poke", "User-Agent: Mozilla/5.0 (X11)")[0] == 403
    assert agent.pokes == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways(agent: Agent, name: str) -> None:
    before = agent.pokes
    status, _ = agent.talk(REFUSED[name] + get(b"GET /api/poke HTTP/1.1"))
    assert 400 <= status < 600
    assert agent.pokes == before


def trickles(connection: socket.socket, piece: bytes) -> bool:
    """Send a little now and again until the agent hangs up; say whether it did."""
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            connection.sendall(piece)
            time.sleep(0.05)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("begun", [b"", b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n", b"G"])
def test_a_request_has_its_time_in_all(begun: bytes) -> None:
    with served(seconds=0.3) as agent, agent.connect() as slow:
        slow.sendall(begun)
        assert trickles(slow, b"X: y\r\n" if begun else b"G")
        assert agent.ask("/api/health")[0] == 200


def test_many_silent_connections_keep_nobody_out() -> None:
    with served() as agent, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(agent.connect())
        assert agent.ask("/api/health") == (200, b'{"status": "ok"}')
