"""Who may ask: programs of this machine, under a name that the API is served as; and no page of a stranger."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.api import Api
from support.shapes import BODY, get, post

CREATE = {"query": 'mutation { create_project(input: {name: "theirs", tenant_id: "%s"}) { id } }'}
UI = "https://ui.example:8443"
PAGE = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def open_to_ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that a page may use, and that has a name."""
    options = ["--allow-origin", f"{UI}/", "--allow-host", "API.Example"]
    with Api(tmp_path_factory.mktemp("ui") / "server.db", options=options) as api:
        yield api


def create(api: Api, headers: dict[str, str]) -> tuple[int, str]:
    """Try to create a project; return the status and the answer."""
    body = json.dumps({"query": CREATE["query"] % api.tenant_id}).encode()
    status, text = api.request("POST", "/graphql", body, headers=headers)
    return status, text.decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:4200"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "evil.example."}, 421),
        ({"Host": "10.1.2.3"}, 421),
        ({"Host": "0.0.0.0"}, 421),
        ({"Host": "[::2]"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:port"}, 421),
        (PAGE, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"X-PREFECT-AGENT-ID": "x" * 65}, 400),
    ],
)
def test_what_a_page_could_make_a_browser_send(served: Api, headers: dict[str, str], status: int) -> None:
    before = served.graphql("{ project { id } }")
    answered, text = create(served, headers)
    assert answered == status
    assert "id" not in json.loads(text)
    assert json.loads(text)["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert served.graphql("{ project { id } }") == before


@pytest.mark.parametrize("path", ["/stats", "/health", "/"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, PAGE, {"Sec-Fetch-Site": "cross-site"}])
def test_what_a_page_could_look_at(served: Api, path: str, headers: dict[str, str]) -> None:
    status, text = served.request("GET", path, headers=headers)
    assert status in (403, 421)
    assert "requests" not in json.loads(text)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LocalHost:4200"},
        {"Host": "127.0.0.2:1"},
        {"Host": "[::1]:4200"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost:4200", "Host": "localhost:4200", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_who_may_ask(served: Api, headers: dict[str, str]) -> None:
    assert served.request("POST", "/", BODY, headers=headers)[0] == 200


def test_a_refusal_names_the_option(served: Api) -> None:
    assert "--allow-host api.example" in create(served, {"Host": "api.example:80"})[1]
    assert f"--allow-origin {UI}" in create(served, {"Origin": UI})[1]


def test_a_name_and_a_page_that_are_allowed(open_to_ui: Api) -> None:
    assert open_to_ui.request("POST", "/", BODY, headers={"Host": "api.example:4200"})[0] == 200
    assert open_to_ui.request("POST", "/", BODY, headers={"Origin": UI, "Sec-Fetch-Site": "cross-site"})[0] == 200
    assert create(open_to_ui, PAGE)[0] == 403


def talk(api: Api, request: bytes) -> bytes:
    """Send one request and return the head of its answer."""
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=60) as opened:
        opened.sendall(request)
        return opened.recv(65_536).partition(b"\r\n\r\n")[0]


def test_browsers_are_told_what_an_allowed_page_may_do(open_to_ui: Api) -> None:
    asks = (
        f"Origin: {UI}\r\nAccess-Control-Request-Method: POST\r\n".encode(),
        b"Access-Control-Request-Headers: content-type\r\nAccess-Control-Request-Private-Network: true\r\n",
    )
    answer = talk(open_to_ui, get(b"OPTIONS /graphql HTTP/1.1", *asks))
    assert answer.startswith(b"HTTP/1.1 204 ")
    for line in (
        f"Access-Control-Allow-Origin: {UI}",
        "Access-Control-Allow-Methods: POST, GET",
        "Access-Control-Allow-Private-Network: true",
        "Vary: Origin",
    ):
        assert f"\r\n{line}".encode() in answer
    assert b"content-type" in answer
    answer = talk(open_to_ui, post(f"Origin: {UI}\r\n".encode()))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert f"\r\nAccess-Control-Allow-Origin: {UI}".encode() in answer


def test_browsers_are_told_nothing_for_other_pages(open_to_ui: Api, served: Api) -> None:
    asks = b"Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n"
    for api in (open_to_ui, served):
        answer = talk(api, get(b"OPTIONS /graphql HTTP/1.1", asks))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"Access-Control" not in answer
        assert b"Cross-Origin-Resource-Policy: same-origin" in answer


def test_the_key_is_looked_at_before_the_body(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db", key="s3cr3t") as api:
        for key in (b"", b"Authorization: Bearer wrong\r\n"):
            # The body never comes; whoever waits for it gives no answer.
            answer = talk(api, post(key, length=b"Content-Length: 5000000\r\n", body=b""))
            assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--allow-host", "http://api.example"),
        ("--allow-host", "api.example:4200"),
        ("--allow-host", ""),
        ("--allow-origin", "ui.example"),
        ("--allow-origin", "*"),
        ("--allow-origin", "https://ui.example/page"),
        ("--allow-origin", "null"),
    ],
)
def test_names_and_origins_that_are_none(tmp_path: Path, option: str, value: str) -> None:
    api = Api(tmp_path / "server.db", options=[option, value])
    with pytest.raises(AssertionError, match=f"{option} .* is no"):
        api.start()


@contextmanager
def everywhere(data: Path) -> Iterator[Api]:
    """An API that listens on all addresses."""

    class Everywhere(Api):
        @property
        def listening(self) -> str:
            return super().listening.replace("127.0.0.1", "0.0.0.0")

    with Everywhere(data, options=["--host", "0.0.0.0"], key="k") as api:
        yield api


def test_where_it_listens_everywhere_any_address_leads_to_it_and_no_name(tmp_path: Path) -> None:
    with everywhere(tmp_path / "server.db") as api:
        assert api.request("POST", "/", BODY, headers={"Host": "192.0.2.7:4200"})[0] == 200
        assert api.request("POST", "/", BODY, headers={"Host": f"{os.uname().nodename}.evil.example"})[0] == 421
