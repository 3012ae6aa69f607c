"""The unix socket: the kernel says who asks. And where one may be made."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from local_agent.errors import ConfigError, LocalAgentError, UnavailableError
from local_agent.server.data.database import Database
from local_agent.server.http import listeners
from support.api import Api
from support.api_client import ApiError
from support.unix_http import HELLO, request, request_as

KEY = "the-administrators"
ANOTHER = ("setpriv", "--reuid=54321", "--regid=54322", "--groups=54323")


@pytest.fixture
def place() -> Iterator[Path]:
    """A path for a socket: pytest's own folders have paths too long for one."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "api.sock"


def test_its_own_user_needs_no_key_and_gets_one_for_tcp(tmp_path: Path, place: Path) -> None:
    with Api(tmp_path / "server.db", options=["--socket", str(place)]) as api:
        assert f"local-agent server listens on unix://{place}\n" in api.console
        assert place.stat().st_mode & 0o777 == 0o600
        assert request(place, "POST", "/", HELLO)[1]["data"] == {"hello": "👋"}
        assert request(place, "GET", "/stats")[0] == 200
        with pytest.raises(ApiError, match="UNAUTHENTICATED"):
            api.graphql("{ hello }")
        status, access = request(place, "GET", "/access")
        assert (status, access["url"]) == (200, api.url)
        bearer = {"Authorization": f"Bearer {access['api_key']}"}
        assert api.graphql("{ hello }", headers=bearer) == {"hello": "👋"}
        assert api.request("GET", "/access", headers=bearer)[0] == 404
        api.restart()
        assert request(place, "GET", "/access")[1] == access  # flow runs outlast a restart
        assert str(access["api_key"]) not in api.console
        assert api.stop() == 0
    assert not place.exists()


@pytest.mark.parametrize("option", ["--allow-user=54321", "--allow-group=54322", "--allow-group=54323"])
def test_whom_the_options_name(tmp_path: Path, place: Path, option: str) -> None:
    place.parent.chmod(0o755)
    with Api(tmp_path / "server.db", options=["--socket", str(place), option]) as api:
        assert request_as(ANOTHER, place, "POST", "/", HELLO)[1]["data"] == {"hello": "👋"}
        theirs = request_as(ANOTHER, place, "GET", "/access")[1]["api_key"]
        assert theirs != request(place, "GET", "/access")[1]["api_key"]
        bearer = {"Authorization": f"Bearer {theirs}"}
        assert api.graphql("{ hello }", headers=bearer) == {"hello": "👋"}
    # it ends with the option that it came by, for good
    for options in (["--socket", str(place), "--allow-user=54320"], ["--socket", str(place), option]):
        with Api(tmp_path / "server.db", options=options) as api, pytest.raises(ApiError, match="UNAUTHENTICATED"):
            api.graphql("{ hello }", headers=bearer)


def test_a_key_ends_with_the_socket(tmp_path: Path, place: Path) -> None:
    options = ["--socket", str(place)]
    with Api(tmp_path / "server.db", options=options):
        given = request(place, "GET", "/access")[1]["api_key"]
    with Api(tmp_path / "server.db"):
        pass
    with Api(tmp_path / "server.db", options=options) as api:
        with pytest.raises(ApiError, match="UNAUTHENTICATED"):
            api.graphql("{ hello }", headers={"Authorization": f"Bearer {given}"})
        assert request(place, "GET", "/access")[1]["api_key"] != given


def test_a_key_does_not_pass_to_another_account_of_its_number(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "server.db")) as database:
        first = database.access_keys({"user 1000": "anna", "group 50": "staff"})
        assert database.access_keys({"user 1000": "anna", "group 50": "staff"}) == first
        second = database.access_keys({"user 1000": "bela", "group 50": "staff"})
        assert second["group 50"] == first["group 50"]
        assert second["user 1000"] != first["user 1000"]
        assert database.access_keys({}) == {}


def test_a_stranger_is_refused_whatever_the_request(tmp_path: Path, place: Path) -> None:
    place.parent.chmod(0o755)
    options = ["--socket", str(place), "--allow-user", "54320", "--allow-group", "54324"]
    with Api(tmp_path / "server.db", options=options, key=KEY) as api:
        for given in (("POST", "/", HELLO), ("GET", "/access"), ("GET", "/stats"), ("GET", "/health")):
            status, answer = request_as(ANOTHER, place, *given)
            assert status == 403
            assert "--allow-user 54321" in str(answer)
        assert api.graphql("{ hello }") == {"hello": "👋"}  # the administrator's key goes on to hold on TCP
        assert "Traceback" not in api.console


@pytest.mark.parametrize("option", ["--allow-user=no-such-user", "--allow-group=no-such-group", "--allow-user=0"])
def test_options_that_cannot_be(tmp_path: Path, option: str) -> None:
    command = [sys.executable, "-m", "local_agent", "server", "--data", str(tmp_path / "d.db"), option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert done.stderr.startswith("error: --allow-")
    assert "hint: " in done.stderr


# Where a socket may be made


def _error(path: Path) -> LocalAgentError:
    with pytest.raises(LocalAgentError) as caught, listeners.unix(path, for_others=False):
        pass
    assert caught.value.hint
    return caught.value


def test_an_ended_servers_socket_is_replaced(place: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as ended:
        ended.bind(str(place))
    with listeners.unix(place, for_others=True):
        assert place.stat().st_mode & 0o777 == 0o666
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(place))
    assert not place.exists()


def test_a_socket_that_answers_is_left_alone(place: Path) -> None:
    with listeners.unix(place, for_others=False):
        assert isinstance(_error(place), UnavailableError)
        assert place.is_socket()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with closing(socket.socket(socket.AF_UNIX, kind)) as other:
            other.bind(str(place))
            if kind == socket.SOCK_STREAM:
                other.listen(0)
            with ExitStack() as waiting:
                while kind == socket.SOCK_STREAM:  # until whoever comes has to wait
                    client = waiting.enter_context(closing(socket.socket(socket.AF_UNIX)))
                    client.setblocking(False)
                    if client.connect_ex(str(place)):
                        break
                assert isinstance(_error(place), UnavailableError)
        assert place.is_socket()
        place.unlink()


@pytest.mark.parametrize("what", ["file", "folder", "link", "link to a socket", "pipe", "lock is a link"])
def test_what_is_no_socket_is_left_alone(place: Path, what: str) -> None:
    victim = place.with_name("victim")
    if what == "file":
        place.write_text("precious")
    elif what == "folder":
        place.mkdir()
    elif what == "pipe":
        os.mkfifo(place)
    elif what == "lock is a link":
        place.with_name(f"{place.name}.lock").symlink_to(victim)
    else:
        place.symlink_to(victim)
    with closing(socket.socket(socket.AF_UNIX)) as aside:
        if what == "link to a socket":
            aside.bind(str(victim))
        before = sorted(place.parent.iterdir())
        assert isinstance(_error(place), ConfigError)
    assert {*before} <= {*place.parent.iterdir()}
    assert not victim.exists() or victim.is_socket()


@pytest.mark.parametrize("how", ["open to all", "sticky", "of another group", "another's", "missing", "a file"])
def test_folders_in_which_no_socket_is_made(place: Path, how: str) -> None:
    folder = place.parent / "folder"
    folder.mkdir()
    if how in ("open to all", "sticky"):
        folder.chmod(0o777 if how == "open to all" else 0o1777)
    elif how == "of another group":
        os.chown(folder, -1, 54322)
        folder.chmod(0o775)
    elif how == "another's":
        os.chown(folder, 54321, -1)
    else:
        shutil.rmtree(folder)
    if how == "a file":
        folder.touch()
    assert isinstance(_error(folder / "api.sock"), ConfigError)
    if how not in ("missing", "a file"):
        assert not list(folder.iterdir())


def test_a_path_that_is_too_long(place: Path) -> None:
    longest = place.with_name("s" * (listeners.MAX_PATH_BYTES - len(str(place.parent)) - 1))
    with listeners.unix(longest, for_others=False):
        assert longest.is_socket()
    assert "108 bytes" in str(_error(longest.with_name(f"{longest.name}s")))
