"""`local-agent server` as a process: how it starts, refuses to, survives and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from support.api import Api, ApiError, wait_until
from support.load import Client, Question


def refused(data: Path, *options: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Start an API that shall not start, and return its exit code and what it says."""
    api = Api(data, environment=environment)
    ended = subprocess.run(
        [*api.command, *options], env=api.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def test_one_line_says_where_it_listens(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        assert api.console == f"local-agent server listens on {api.url}\n"
        assert api.stop() == 0


def test_nothing_that_was_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        flow = api.create_flow()
        for _ in range(3):
            run = api.create_flow_run(flow)
            acknowledged = _write_until_killed(api, run)
            api.restart()
            messages = [state["message"] for state in api.states(run)[1:]]
            # The last one may be there without having been acknowledged.
            assert messages[: len(acknowledged)] == acknowledged
            assert len(messages) - len(acknowledged) in (0, 1)
            assert api.flow_run(run)["version"] == len(messages) + 1
            assert api.graphql("{ flow_run { id } }")["flow_run"]


def _write_until_killed(api: Api, run: str) -> list[str]:
    """Set states, kill the API from aside after twenty, and return the messages of those that were acknowledged."""
    acknowledged: list[str] = []
    enough = threading.Event()
    killer = threading.Thread(target=_kill_when, args=(api.pid, enough))
    killer.start()
    try:
        while True:
            message = f"state {len(acknowledged)}"
            api.set_state(run, {"type": "Running", "message": message})
            acknowledged.append(message)
            if len(acknowledged) == 20:
                enough.set()
    except OSError:
        return acknowledged
    except Exception as error:
        # http.client has a family of its own for answers that break off.
        assert type(error).__module__ == "http.client", error  # noqa: PT017 - a family without a common public name
        return acknowledged
    finally:
        enough.set()
        killer.join()


def _kill_when(pid: int, event: threading.Event) -> None:
    event.wait(60)
    os.kill(pid, signal.SIGKILL)


def test_what_was_there_is_there_after_a_stop(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        url, tenant = api.url, api.tenant_id
        run = api.create_flow_run(api.create_flow())
        assert api.stop() == 0
        api.start()
        assert api.url == url
        assert api.graphql("{ tenant { id } }")["tenant"] == [{"id": tenant}]
        assert api.state(run) == "Scheduled"


def test_the_submit_lock_can_be_turned_off(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        run = api.create_flow_run(api.create_flow())
        api.set_state(run, "Submitted")
        with pytest.raises(ApiError, match="already been submitted"):
            api.set_state(run, "Submitted")
    with Api(tmp_path / "server.db", options=["--no-submit-lock"]) as api:
        api.set_state(run, "Submitted")
        api.set_state(run, "Submitted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_even_with_connections_open(tmp_path: Path, number: signal.Signals) -> None:
    with Api(tmp_path / "server.db") as api:
        host, port = api.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as idle, socket.create_connection((host, int(port))) as half:
            half.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n"
            )
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"ok" in idle.recv(1000)
            begin = time.monotonic()
            os.kill(api.pid, number)
            _wait_until_gone(api.pid)
            # Half a second on a quiet machine; the bound only has to tell it from waiting for a timeout.
            assert time.monotonic() - begin < 10
        assert api.stop() == 0


def _wait_until_gone(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
    finally:
        os.close(descriptor)


def test_it_tells_systemd_when_it_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(60)
        with Api(tmp_path / "server.db", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as api:
            assert notified.recv(1000).decode() == f"READY=1\nSTATUS=Listening on {api.url}"
            assert api.stop() == 0
        assert notified.recv(1000) == b"STOPPING=1"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        port = api.url.rpartition(":")[2]
        code, said = refused(tmp_path / "other.db", "--port", port)
    assert code == 69
    assert said.startswith(f"error: 127.0.0.1 port {port} is taken by another program\nhint: ")


def test_a_data_file_that_is_in_use(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db"):
        code, said = refused(tmp_path / "server.db")
    assert code == 74
    assert "is in use by another local-agent server" in said


def test_a_data_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_text("This is no database, but a text that is long enough. " * 100)
    code, said = refused(tmp_path / "server.db")
    assert code == 74
    assert said.startswith(f"error: the data file {tmp_path}/server.db cannot be used: file is not a database")


def test_a_data_file_of_another_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "server.db")) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    code, said = refused(tmp_path / "server.db")
    assert code == 74
    assert "is not one of this local-agent" in said


def test_a_data_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "server.db").mkdir()
    code, said = refused(tmp_path / "server.db")
    assert code == 78
    assert "is a directory" in said


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = refused(tmp_path / "file" / "server.db")
    assert code == 74
    assert said.startswith(f"error: the data file {tmp_path}/file/server.db cannot be used: ")
    assert "hint: choose a writable place with --data PATH" in said


def test_the_data_file_is_its_owners_only(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db"):
        assert (tmp_path / "server.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"STATE_DIRECTORY": "{tmp}/state", "XDG_STATE_HOME": "{tmp}/xdg"}, "state/server.db"),
        ({"XDG_STATE_HOME": "{tmp}/xdg"}, "xdg/local-agent/server/server.db"),
    ],
)
def test_where_the_data_lies_unless_told(tmp_path: Path, environment: dict[str, str], place: str) -> None:
    expanded = {name: value.format(tmp=tmp_path) for name, value in environment.items()}
    with _WithoutData(tmp_path / "unused.db", environment=expanded):
        assert (tmp_path / place).exists()
        assert not (tmp_path / "unused.db").exists()


class _WithoutData(Api):
    @property
    def command(self) -> list[str]:
        given = super().command
        place = given.index("--data")
        return [*given[:place], *given[place + 2 :]]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_beyond_this_machine_only_with_a_key(tmp_path: Path, host: str) -> None:
    code, said = refused(tmp_path / "server.db", "--host", host)
    assert code == 78
    assert said.startswith(f"error: without an API key, --host {host} would let everybody who reaches this machine")
    assert "--insecure" in said


@pytest.mark.parametrize(
    ("options", "key"), [(["--host", "0.0.0.0", "--insecure"], None), (["--host", "0.0.0.0"], "k")]
)
def test_beyond_this_machine_when_it_is_meant(tmp_path: Path, options: list[str], key: str | None) -> None:
    with _Everywhere(tmp_path / "server.db", options=options, key=key) as api:
        assert api.graphql("{ hello }") == {"hello": "👋"}


class _Everywhere(Api):
    @property
    def listening(self) -> str:
        return super().listening.replace("127.0.0.1", "0.0.0.0")


@pytest.mark.parametrize(
    ("options", "says", "code"),
    [
        (["--port", "70000"], "70000", 78),
        (["--api-key-file", "/nonexistent/key"], "the API key file /nonexistent/key cannot be read", 77),
        (["--api-key", "two words"], "the API key cannot be sent in a header", 77),
        (["--host", "192.0.2.1", "--insecure"], "cannot listen on 192.0.2.1", 78),
        (["--host", "no.such.host.invalid", "--insecure"], "cannot listen on no.such.host.invalid", 78),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, options: list[str], says: str, code: int) -> None:
    ended, said = refused(tmp_path / "server.db", *options)
    assert ended == code
    assert says in said


class _FewFiles(Api):
    @property
    def command(self) -> list[str]:
        return ["prlimit", "--nofile=50:50", "--", *super().command]


def test_where_there_is_no_place_the_silent_ones_go(tmp_path: Path) -> None:
    with _FewFiles(tmp_path / "server.db") as api, contextlib.ExitStack() as stack:
        hello = Question("{ hello }")
        busy = stack.enter_context(Client(api.url))
        for _ in range(80):
            silent = stack.enter_context(Client(api.url))
            assert busy.ask(hello) == {"hello": "👋"}
        assert silent.ask(hello) == {"hello": "👋"}
        wait_until(lambda: "those that are silent for longest are closed" in api.console, lambda: api.console)
