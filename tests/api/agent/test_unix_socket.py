"""The agent's requests over a unix socket: an answer or one of our errors, as on TCP."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local_agent.backends.prefect1 import Transport
from local_agent.backends.prefect1.access import access_of
from local_agent.backends.prefect1.answers import refused
from local_agent.backends.replies import Reply
from local_agent.errors import ApiRefusedError, ApiUnreachableError, CredentialError, NotUnderstoodError
from local_agent.host.doctor.check import Verdict
from local_agent.host.doctor.instance import check_api
from local_agent.settings import load_settings
from support.api import Api
from support.unix_http import request

KEY = "the-administrators"
_HELLO = "query { hello }"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A path for a socket."""
    with tempfile.TemporaryDirectory(suffix="@blue") as folder:
        yield Path(folder) / "api.sock"


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Api]:
    """An API that listens there."""
    with Api(place.with_name("server.db"), options=["--socket", str(place)], key=KEY) as api:
        yield api


def _transport(path: Path, timeout_seconds: float = 20.0) -> Transport:
    return Transport(f"unix://{path}", api_key="", tenant_id="", timeout_seconds=timeout_seconds)


async def test_answers_come_by_few_connections(served: Api, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # stands between nobody and a socket
    with closing(_transport(place)) as transport:
        before = served.stats()["connections"]
        for _ in range(20):
            assert (await transport.ask(_HELLO)).data == {"hello": "\N{WAVING HAND SIGN}"}
        assert served.stats()["connections"] - before <= 4  # one here, and those of the test itself
        access = await transport.ask_access()
    assert access.url == served.url
    assert access.api_key == request(place, "GET", "/access")[1]["api_key"]
    assert access.api_key not in repr(access)


async def test_no_server(place: Path) -> None:
    with closing(_transport(place.with_name("none"))) as transport:
        with pytest.raises(ApiUnreachableError, match="No such file") as caught:
            await transport.ask(_HELLO)
        assert f"namei -l {place.parent}/none" in caught.value.hint


async def test_a_server_that_does_not_answer(place: Path) -> None:
    silent = place.with_name("silent")
    with closing(socket.socket(socket.AF_UNIX)) as listener, closing(_transport(silent, 0.3)) as transport:
        listener.bind(str(silent))
        listener.listen()
        for ask in (transport.ask(_HELLO), transport.ask_access()):
            with pytest.raises(ApiUnreachableError, match="no answer in time"):
                await ask


def test_a_refused_user_is_told() -> None:
    said = b'{"errors": [{"message": "The user bin may not use this socket"}]}'
    for content in (said, b"", b"[]", b'"x"', b'{"errors": 5}', b"<html>", b"\xff"):
        error = refused(Reply(403, {}, content), "unix:///run/api.sock", has_key=False)
        assert isinstance(error, CredentialError)
        assert "refuses this agent's user" in error.message
    error = refused(Reply(403, {}, said), "unix:///run/api.sock", has_key=False)
    assert "The user bin may not" in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"5",
        b"{}",
        b'{"url": "http://127.0.0.1:1"}',
        b'{"url": 5, "api_key": "k"}',
        b'{"url": "unix:relative", "api_key": "k"}',
        b'{"url": "http://h", "api_key": "a b"}',
        b'{"url": "http://h", "api_key": "a\\u0000b"}',
        b'{"url": "http://h\\n", "api_key": ["k"]}',
    ],
)
def test_an_access_that_cannot_be_used(content: bytes) -> None:
    with pytest.raises(NotUnderstoodError):
        access_of(Reply(200, {}, content), "unix:///run/api.sock")


def test_another_api_behind_a_socket() -> None:
    with pytest.raises(ApiRefusedError, match="where flow runs find it"):
        access_of(Reply(404, {}, b""), "unix:///run/api.sock")


def test_doctor(served: Api, place: Path, tmp_path: Path) -> None:
    assert served.pid
    for path, verdict in ((place, Verdict.OK), (place.with_name("none"), Verdict.FAILURE)):
        environ = {"HOME": str(tmp_path), "LOCAL_AGENT_CONFIG_DIR": str(tmp_path), "LOCAL_AGENT_API": f"unix://{path}"}
        settings = load_settings(flags={"instance": "prod1"}, environ=environ, hostname="thishost")
        finding = check_api(settings, "prod1")[0][0]
        assert finding.verdict is verdict
        assert f"unix://{path}" in finding.evidence
