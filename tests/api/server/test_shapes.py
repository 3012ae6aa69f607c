"""Requests that two programs could read differently are refused, and nothing that follows them is read."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest

from support.api import Api
from support.shapes import GOOD, REFUSED

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")


def exchange(served: Api, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the API hangs up."""
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as opened:
        opened.sendall(sent)
        return b"".join(iter(lambda: opened.recv(65_536), b""))


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways(served: Api, name: str) -> None:
    answers = exchange(served, REFUSED[name] + SMUGGLED)
    (status,) = _STATUS.findall(answers)
    assert 400 <= int(status) < 500
    assert b"Connection: close\r\n" in answers
    assert b"hello" not in answers
    assert "Traceback" not in served.console


@pytest.mark.parametrize("size", [1, 2, 7])
def test_how_it_is_cut_up_does_not_matter(served: Api, size: int) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = GOOD + GOOD
        for place in range(0, len(whole), size):
            opened.sendall(whole[place : place + size])
        opened.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: opened.recv(65_536), b""))
    assert _STATUS.findall(answers) == [b"200", b"200"]


def test_a_head_that_is_refused_is_refused_before_its_end(served: Api) -> None:
    answers = exchange(served, b"POST / HTTP/1.1\nHost: localhost\n\n")
    assert _STATUS.findall(answers) == [b"400"]
