"""Where a real agent listens: at IPv4, at IPv6, at both; and what it says where it cannot."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path

import pytest

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until

_IPV4, _IPV6 = "127.0.0.1", "::1"


def _has_ipv6() -> bool:
    """Whether this machine's loopback has IPv6: a kernel may be booted without it."""
    try:
        with socket.create_server((_IPV6, 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _free_port() -> int:
    """Return a port that is free in both families."""
    while True:
        with socket.create_server(("", 0), family=socket.AF_INET) as listener:
            port = int(listener.getsockname()[1])
            if not _has_ipv6():
                return port
            try:
                with socket.create_server(("::", port), family=socket.AF_INET6):
                    return port
            except OSError:
                continue


def _health(host: str, port: int) -> object:
    """Return what the agent says of itself there, None where nothing listens."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("GET", "/api/health")
        return json.loads(connection.getresponse().read())
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("written", "hosts"),
    [
        ("http://[::1]:{}", (_IPV6,)),
        ("[::1]:{}", (_IPV6,)),
        ("http://127.0.0.1:{}", (_IPV4,)),
        ("http://[::ffff:127.0.0.1]:{}", (_IPV4,)),
        ("http://0.0.0.0:{}", (_IPV4,)),
        (":{}", (_IPV4, _IPV6)),
        ("http://:{}/", (_IPV4, _IPV6)),
        ("http://[::]:{}", (_IPV4, _IPV6)),
    ],
)
def test_it_answers_where_it_was_told_to(api: Api, folder: Path, written: str, hosts: tuple[str, ...]) -> None:
    port = _free_port()
    there = [host for host in hosts if host == _IPV4 or _has_ipv6()]
    with AgentProcess(folder, api.url, "--agent-address", written.format(port)) as agent:
        if not there:
            assert agent.wait() == 78
            assert "this machine has no IPv6" in agent.said or "ip -brief address" in agent.said
            return
        agent.wait_for("Registered at")
        asked = [_IPV4, *([_IPV6] if _has_ipv6() else [])]
        assert {host: _health(host, port) for host in asked} == {
            host: {"status": "ok"} if host in there else None for host in asked
        }


def test_a_name_is_listened_at_wherever_it_leads(api: Api, folder: Path) -> None:
    found = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    hosts = {str(place[0]) for _, _, _, _, place in found} & {_IPV4, *([_IPV6] if _has_ipv6() else [])}
    port = _free_port()
    with AgentProcess(folder, api.url, "--agent-address", f"http://localhost:{port}") as agent:
        agent.wait_for("Registered at")
        assert hosts
        assert {host: _health(host, port) for host in hosts} == {host: {"status": "ok"} for host in hosts}


def test_every_interface_is_taken_where_one_of_them_is(folder: Path) -> None:
    """An agent that listened with one family only would be asked by half of its callers in vain."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with AgentProcess(folder, "http://127.0.0.1:9", "--agent-address", f":{port}") as agent:
            assert agent.wait() == 78
            error, hint = agent.said.splitlines()
            assert error == f"error: cannot listen on http://:{port}: Address already in use"
            assert "`ss -ltnp` shows who" in hint


@pytest.mark.parametrize(
    ("written", "error", "hint"),
    [
        ("192.0.2.1:8080", "cannot listen on http://192.0.2.1:8080: ", "ip -brief address"),
        ("::1:8080", "an IPv6 address stands in brackets, as in [::1]:8080", "127.0.0.1:8080"),
        ("http://user:hidden@[::1]:8080", '"***@[::1]:8080" is not a host and a port: nobody logs in', "8080"),
    ],
)
def test_a_wrong_address_is_refused_with_what_is_right(folder: Path, written: str, error: str, hint: str) -> None:
    with AgentProcess(folder, "http://127.0.0.1:9", "--agent-address", written) as agent:
        assert agent.wait() == 78
        assert error in agent.said
        assert hint in agent.said.splitlines()[-1]
        assert "hidden" not in agent.said
        assert "Traceback" not in agent.said


def test_it_leaves_nothing_bound(api: Api, folder: Path) -> None:
    """A restart gets its port back at once, while connections to its predecessor are still dying."""
    port = _free_port()
    agent = AgentProcess(folder, api.url, "--agent-address", f":{port}")
    for _ in range(2):
        with agent:
            wait_until(lambda: _health(_IPV4, port) == {"status": "ok"}, lambda: agent.said)
