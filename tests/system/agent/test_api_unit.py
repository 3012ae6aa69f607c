"""The unit of the embedded API and its socket unit, under a real systemd: who may ask, and what outlasts a restart."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SERVICE = "local-agent-server.service"
SOCKET = "local-agent-server.socket"
_HELLO = """-s -m 60 -H 'Content-Type: application/json' -d '{"query": "{ hello }"}'"""
_UNREADABLE = "cannot be read"
_DATA = {"data": {"hello": "👋"}}
_PATH = "/run/local-agent-server.sock"

# Asks one request after another, each on a connection of its own, and says how often it was not answered.
_ASK = """\
import http.client, os, sys, time
failed = asked = 0
while not os.path.exists("/srv/asked-enough"):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    try:
        connection.request("GET", "/health")
        asked += connection.getresponse().status == 401  # it has no key
    except OSError:
        failed += 1
    connection.close()
    time.sleep(0.01)
print(asked, failed)
"""


@pytest.fixture
def port() -> int:
    """A port for the API: the machine shares our loopback."""
    return random.randrange(12_000, 32_000)


def ask(machine: Machine, where: str, *, user: str = "root", more: str = _HELLO) -> dict[str, Any]:
    """Ask with curl and return the answer."""
    answer: dict[str, Any] = json.loads(machine.run(f"curl {more} {where}", user=user, timeout_seconds=90).stdout)
    return answer


def over(path: str, target: str = "") -> str:
    """Return curl's words for a unix socket."""
    return f"--unix-socket {path} http://localhost/{target}"


def run_server(machine: Machine, options: str, socket_unit: str = "") -> None:
    """Have the unit started with other options, and a socket unit that says this."""
    words = f"[Service]\nExecStart=\nExecStart=/usr/bin/local-agent server {options}\n"
    machine.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", words)
    if socket_unit:
        machine.write(f"/etc/systemd/system/{SOCKET}.d/test.conf", f"[Socket]\nListenStream=\n{socket_unit}\n")
    machine.run("systemctl daemon-reload")


def state(machine: Machine, unit: str) -> str:
    """Return whether a unit is active, in systemd's words."""
    return machine.run(["systemctl", "is-active", unit], check=False).stdout.strip()


def check_who_may(machine: Machine, path: str, url: str) -> str:
    """Check that root and alice may ask over a socket and nobody else, and return alice's key, which TCP takes."""
    for user in ("root", "alice"):
        assert ask(machine, over(path), user=user) == _DATA
    stranger = machine.run(f"setpriv --reuid=54321 --regid=54321 --clear-groups curl {_HELLO} {over(path)}").stdout
    assert "may not use this socket" in stranger
    access = ask(machine, over(path, "access"), user="alice", more="-s")
    assert access["url"] == url
    assert "UNAUTHENTICATED" in str(ask(machine, url))
    assert ask(machine, f"-H 'Authorization: Bearer {access['api_key']}' {url}") == _DATA
    return str(access["api_key"])


def test_the_unit_with_a_socket_of_its_own(machine: Machine, port: int) -> None:
    path = "/run/local-agent-server/api.sock"
    run_server(machine, f"--port {port} --socket %t/local-agent-server/api.sock --allow-user alice")
    machine.run(["systemctl", "start", SERVICE])
    key = check_who_may(machine, path, f"http://127.0.0.1:{port}")
    machine.run(["systemctl", "restart", SERVICE])
    assert check_who_may(machine, path, f"http://127.0.0.1:{port}") == key
    machine.run(["systemctl", "kill", "--signal=KILL", SERVICE])
    machine.wait_until(f"curl {_HELLO} {over(path)}")
    machine.run(["systemctl", "stop", SERVICE])
    assert machine.run(f"ls {path}", check=False).returncode != 0
    assert "error: " not in machine.journal("-u", SERVICE)


def test_the_socket_unit_holds_the_places(machine: Machine, port: int) -> None:
    run_server(machine, "--allow-user alice", f"ListenStream=127.0.0.1:{port}\nListenStream={_PATH}")
    machine.run(["systemctl", "start", SOCKET])
    assert state(machine, SERVICE) == "inactive"
    key = check_who_may(machine, _PATH, f"http://127.0.0.1:{port}")  # the first who asks starts it
    assert state(machine, SERVICE) == "active"
    machine.write("/srv/ask.py", _ASK)
    machine.run(["rm", "-f", "/srv/asked-enough"])
    asking = machine.spawn(["python3", "/srv/ask.py", str(port)])
    for _ in range(3):
        machine.run(["systemctl", "restart", SERVICE])
    machine.run(["touch", "/srv/asked-enough"])
    assert asking.stdout is not None
    asked, failed = map(int, asking.stdout.read().split())
    assert (asked > 0, failed) == (True, 0)
    machine.run(["systemctl", "stop", SERVICE])
    taken = machine.run(f"setpriv --reuid=54321 python3 -m http.server --bind 127.0.0.1 {port}", check=False)
    assert "Address already in use" in taken.stderr
    assert check_who_may(machine, _PATH, f"http://127.0.0.1:{port}") == key  # and so it is started again
    assert "error: " not in machine.journal("-u", SERVICE)


def test_a_server_that_cannot_start_is_not_started_all_the_time(machine: Machine, port: int) -> None:
    run_server(machine, "--api-key-file /srv/key", f"ListenStream=127.0.0.1:{port}")
    machine.run(["systemctl", "start", SOCKET])
    waiting = machine.spawn(f"curl {_HELLO} -H 'Authorization: Bearer secret' http://127.0.0.1:{port}")
    machine.wait_until(lambda: _UNREADABLE in machine.journal("-u", SERVICE))
    machine.run("sleep 8")
    said = [line for line in machine.journal("-u", SERVICE, "-o", "short-unix").splitlines() if _UNREADABLE in line]
    at = [float(line.split()[0]) for line in said]
    assert all(later - earlier > 4 for earlier, later in itertools.pairwise(at)), said
    machine.write("/srv/key", "secret\n")
    assert waiting.stdout is not None
    assert json.loads(waiting.stdout.read()) == _DATA
    assert state(machine, SOCKET) == "active"
