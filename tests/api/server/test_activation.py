"""Sockets that systemd passes: they take the place of options, and are left as they were."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from support.api import wait_until
from support.unix_http import HELLO, request

# Takes the numbers of the sockets, and the command that gets them as systemd would pass them.
_PASS = """\
import os, sys
numbers = [int(each) for each in sys.argv[1].split()]
kept = [os.dup(each) for each in numbers]
for place, each in enumerate(kept, 3):
    os.dup2(each, place)
    os.set_inheritable(place, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)))
os.execv(sys.executable, [sys.executable, "-m", "local_agent", "server", *sys.argv[2:]])
"""
_SECONDS = 60


def _started(sockets: Sequence[socket.socket], options: Sequence[str]) -> subprocess.Popen[str]:
    numbers = [each.fileno() for each in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", _PASS, " ".join(map(str, numbers)), *options],
        pass_fds=numbers,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass
class Server:
    """A server with passed sockets. `said` has its lines."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self.process.terminate()
        return self.process.wait(_SECONDS)


@contextmanager
def served(sockets: Sequence[socket.socket], *options: str) -> Iterator[Server]:
    """Serve for the length of the context, from when every socket is announced."""
    with _started(sockets, options) as process:
        server = Server(process)
        assert process.stdout is not None
        reader = threading.Thread(target=server.said.extend, args=(process.stdout,))
        reader.start()
        try:
            wait_until(lambda: len(server.said) >= len(sockets), lambda: "".join(server.said))
            yield server
        finally:
            process.kill()
            reader.join(_SECONDS)


def refused(sockets: Sequence[socket.socket], *options: str) -> str:
    """Start a server that shall not start because of how it is set up, and return what it says."""
    with _started(sockets, options) as process:
        said, _ = process.communicate(timeout=_SECONDS)
    assert process.returncode == 78, said
    assert "hint: " in said
    assert "Traceback" not in said
    return said


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """A listening socket, as a socket unit makes one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


@pytest.fixture
def place() -> Iterator[Path]:
    """A path for a socket: pytest's own folders have paths too long for one."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "api.sock"


@contextmanager
def unix(place: Path) -> Iterator[socket.socket]:
    """Listen on a unix socket, as a socket unit does."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(place))
        listener.listen()
        yield listener


def hello(port: int, headers: Mapping[str, str] | None = None) -> dict[str, object]:
    """Ask over TCP and return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    with closing(connection):
        connection.request("POST", "/", HELLO, {"Content-Type": "application/json", **(headers or {})})
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        return answer


def test_tcp(tmp_path: Path, tcp: socket.socket) -> None:
    port = tcp.getsockname()[1]
    with served([tcp], "--data", str(tmp_path / "d.db")) as server:
        assert server.said == [f"local-agent server listens on http://127.0.0.1:{port}\n"]
        assert hello(port) == {"data": {"hello": "👋"}}
        assert server.stop() == 0


def test_both_and_each_by_itself(tmp_path: Path, tcp: socket.socket, place: Path) -> None:
    port = tcp.getsockname()[1]
    with unix(place) as own, served([own, tcp], "--data", str(tmp_path / "d.db")) as server:
        assert request(place, "POST", "/", HELLO)[1] == {"data": {"hello": "👋"}}
        access = request(place, "GET", "/access")[1]
        assert access["url"] == f"http://127.0.0.1:{port}"
        assert "errors" in hello(port)
        assert hello(port, {"Authorization": f"Bearer {access['api_key']}"}) == {"data": {"hello": "👋"}}
        assert server.stop() == 0
        # systemd's: it goes on to listen there
        assert place.is_socket()
    with served([tcp], "--data", str(tmp_path / "d.db"), "--socket", str(place.with_name("other.sock"))):
        wait_until(lambda: place.with_name("other.sock").exists(), lambda: "")
        assert request(place.with_name("other.sock"), "GET", "/access")[1]["url"] == access["url"]


def test_who_asks_between_two_servers_waits(tmp_path: Path, tcp: socket.socket) -> None:
    port = tcp.getsockname()[1]
    stop, answers, failures = threading.Event(), list[object](), list[BaseException]()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(hello(port))
            except BaseException as error:
                failures.append(error)
                return
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(3):
            with served([tcp], "--data", str(tmp_path / "d.db")) as server:
                seen = len(answers)
                wait_until(partial(_has_more, answers, seen + 5), lambda: str(failures))
                assert server.stop() == 0
    finally:
        stop.set()
        # the last one asks a server that is not there
        with served([tcp], "--data", str(tmp_path / "d.db")):
            asking.join(_SECONDS)
    assert failures == []
    assert all(answer == {"data": {"hello": "👋"}} for answer in answers)


def _has_more(answers: list[object], count: int) -> bool:
    return len(answers) > count


@pytest.mark.parametrize("option", [("--port", "4200"), ("--host", "127.0.0.1")])
def test_an_option_that_says_otherwise(tmp_path: Path, tcp: socket.socket, option: tuple[str, str]) -> None:
    said = refused([tcp], "--data", str(tmp_path / "d.db"), *option)
    assert f"{option[0]} and the socket that systemd passes" in said


def test_a_socket_of_its_own_beside_one_that_is_passed(tmp_path: Path, place: Path) -> None:
    with unix(place) as own:
        said = refused([own], "--data", str(tmp_path / "d.db"), "--socket", str(place.with_name("other.sock")))
    assert "--socket and the socket that systemd passes" in said


def test_every_address_needs_a_key(tmp_path: Path) -> None:
    with closing(socket.create_server(("0.0.0.0", 0))) as listener:
        assert "ListenStream=0.0.0.0" in refused([listener], "--data", str(tmp_path / "d.db"))


def test_what_is_no_socket_to_serve(tmp_path: Path, place: Path) -> None:
    data = ("--data", str(tmp_path / "d.db"))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as datagrams:
        assert "no stream socket" in refused([datagrams], *data)
    with closing(socket.socket(socket.AF_UNIX)) as unbound:
        assert "does not listen" in refused([unbound], *data)
    with closing(socket.socket(socket.AF_UNIX)) as abstract:
        abstract.bind("\0local-agent-test-" + place.parent.name)
        abstract.listen()
        assert "no path" in refused([abstract], *data)
    left, right = socket.socketpair()
    with closing(left), closing(right):
        assert "Accept=no" in refused([left], *data)
    place.parent.chmod(0o777)
    with unix(place) as anybodys:
        assert "cannot be made safely" in refused([anybodys], *data)
