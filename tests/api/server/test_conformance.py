"""What RFC 9110 and RFC 9112 want of every server, and how this one shows it."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest

from support.api import Api
from support.unix_http import HELLO

SECONDS = 60
_OPEN = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(HELLO)


def _exchange(api: Api, *requests: bytes) -> bytes:
    """Send requests at once, and return all that comes until the server hangs up."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=SECONDS) as connection:
        connection.sendall(b"".join(requests))
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def _statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def test_head_is_get_without_its_content(served: Api) -> None:
    got = _exchange(served, _LAST)
    head = _exchange(served, _LAST.replace(b"GET", b"HEAD"))
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 15\r\n" in head
    assert got.partition(b"Date:")[0] == head.partition(b"Date:")[0]
    # what follows on the connection is the next answer
    assert _statuses(_exchange(served, _OPEN.replace(b"GET", b"HEAD"), _LAST)) == [200, 200]


@pytest.mark.parametrize(
    ("method", "status"),
    [("PUT", 405), ("DELETE", 405), ("PATCH", 405), ("TRACE", 405), ("CONNECT", 405), ("OPTIONS", 204)],
)
def test_methods_that_ask_for_nothing_here(served: Api, method: str, status: int) -> None:
    answer = _exchange(served, _LAST.replace(b"GET", method.encode()))
    assert _statuses(answer) == [status]
    assert b"\r\nAllow: GET, HEAD, OPTIONS, POST\r\n" in answer
    assert (b"Content-Length" in answer) == (status != 204)


@pytest.mark.parametrize("method", [b"FOO", b"get", b"PRI"])
def test_methods_that_nobody_knows(served: Api, method: bytes) -> None:
    assert _statuses(_exchange(served, _LAST.replace(b"GET", method))) == [501]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, close\r\n\r\n",
        _POST + b"Connection: close\r\n\r\n" + HELLO.encode(),
        _POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + HELLO.encode(),
    ],
)
def test_nothing_is_answered_after_the_last_request(served: Api, head: bytes) -> None:
    before = served.count_requests()
    answer = _exchange(served, head, _POST + b"\r\n" + HELLO.encode(), _LAST)
    assert _statuses(answer) == [200]
    assert b"\r\nConnection: close\r\n" in answer
    assert served.count_requests() - before == head.startswith(b"POST")


def test_a_target_with_its_host(served: Api) -> None:
    absolute = _LAST.replace(b" /health", b" http://localhost/health?x=/y")
    assert _statuses(_exchange(served, absolute)) == [200]
    assert _statuses(_exchange(served, absolute.replace(b"http://localhost", b"http://127.0.0.1"))) == [400]
    assert _statuses(_exchange(served, absolute.replace(b"localhost", b"evil.example"))) == [421]
    for target in (b"https://localhost/health", b"http:///health", b"http://localhost", b"http://u@localhost/", b"*"):
        assert _statuses(_exchange(served, _LAST.replace(b"/health", target))) == [400]


def test_requests_that_come_together_are_answered_in_their_order(served: Api) -> None:
    bodies = [f'{{"query": "{{ hello{number}: hello }}"}}'.encode() for number in range(20)]
    requests = [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
        for body in bodies
    ]
    answers = _exchange(served, *(part for request in requests for part in (request, _OPEN)), _LAST)
    assert _statuses(answers) == [200] * 41
    places = [answers.index(b'"hello%d":' % number) for number in range(20)]
    assert places == sorted(places)
