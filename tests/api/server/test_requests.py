"""Requests as they come over the wire: bodies, headers, connections."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local_agent.server.bounds.limits import Limits
from support.api import Api

NAMED = "query($name: String) { project(where: {name: {_eq: $name}}) { name } }"


@pytest.fixture
def connection(served: Api) -> Iterator[http.client.HTTPConnection]:
    """A connection to the API."""
    address = urlsplit(served.url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as opened:
        yield opened


@pytest.mark.parametrize("variables", ['{"name": "p"}', {"name": "p"}])
def test_variables_as_text_or_object(served: Api, variables: object) -> None:
    served.create_project("p")
    served.create_project("q")
    _, answer = served.post({"query": NAMED, "variables": variables})
    assert answer == {"data": {"project": [{"name": "p"}]}}


@pytest.mark.parametrize("variables", ["null", "", None, {}, "{}"])
def test_no_variables(served: Api, variables: object) -> None:
    _, answer = served.post({"query": "{ hello }", "variables": variables})
    assert answer == {"data": {"hello": "👋"}}


def test_variables_left_out(served: Api) -> None:
    assert served.post({"query": "{ hello }"}) == (200, {"data": {"hello": "👋"}})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"query": "{ hello }", "variables": "{"}, "Variables are invalid JSON"),
        ({"query": "{ hello }", "variables": "[1]"}, "Variables must be an object"),
        ({"query": "{ hello"}, "Syntax Error"),
        ({"query": "{ " * 3000}, ""),
        ({"query": "{ hello }", "operationName": "x"}, 'Unknown operation named "x"'),
        ({"query": "query a { hello } query b { hello }"}, "Must provide operation name"),
        ({"quarry": "{ hello }"}, 'Expected a JSON object with a "query"'),
        ([{"query": "{ hello }"}], 'Expected a JSON object with a "query"'),
        ({"query": "mutation { fly_to_the_moon(input: {}) { id } }"}, "This API has no mutation 'fly_to_the_moon'"),
        ({"query": "{ weather { id } hello }"}, "This API has no query 'weather'"),
        ({"query": "subscription { flow_run { id } }"}, "This API has no subscription 'flow_run'"),
    ],
)
def test_what_is_not_understood(served: Api, body: Any, says: str) -> None:  # noqa: ANN401 - any JSON value
    status, answer = served.post(body)
    assert status == 400
    assert says in answer["errors"][0]["message"]


def test_one_of_two_operations(served: Api) -> None:
    body = {"query": "query a { hello } query b { tenant { slug } }", "operationName": "b"}
    assert served.post(body) == (200, {"data": {"tenant": [{"slug": "default"}]}})


def test_variables_of_the_wrong_type(served: Api) -> None:
    query = "mutation($input: delete_flow_run_input!) { delete_flow_run(input: $input) { success } }"
    status, answer = served.post({"query": query, "variables": {"input": {"flow_run_id": "12"}}})
    assert status == 200
    assert "'12' is no UUID" in answer["errors"][0]["message"]


def test_any_path_takes_requests(served: Api) -> None:
    status, text = served.request("POST", "/graphql", json.dumps({"query": "{ hello }"}).encode())
    assert (status, json.loads(text)) == (200, {"data": {"hello": "👋"}})


def test_what_is_no_json(served: Api) -> None:
    status, text = served.request("POST", "/", b"<html>")
    assert status == 400
    assert json.loads(text)["errors"][0]["message"].startswith("The body is not JSON: ")


def test_characters_that_sqlite_cannot_keep(served: Api) -> None:
    run = served.create_flow_run(served.create_flow(), name="x\ud800y\0z")
    log = {"flow_run_id": run, "message": "line \udc80 \0 end 🎉"}
    served.mutate("write_run_logs", {"logs": [log]})
    assert served.flow_run(run, "name") == {"name": "x?y\N{REPLACEMENT CHARACTER}z"}
    assert served.messages(run) == ["line ? \N{REPLACEMENT CHARACTER} end 🎉"]


def ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    """Send a request on an open connection and return its answer."""
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def test_a_connection_is_kept(served: Api, connection: http.client.HTTPConnection) -> None:
    before = served.stats()["connections"]
    for _ in range(20):
        assert ask(connection, b'{"query": "{ hello }"}')[0] == 200
        assert ask(connection, b"nonsense")[0] == 400
    assert served.stats()["connections"] - before == 2  # ours, and that of the second look


def test_header_and_body_come_in_one_piece(served: Api) -> None:
    # In two, the second may wait 40 ms for the acknowledgement of the first.
    address = urlsplit(served.url)
    body = b'{"query": "{ hello }"}'
    request = post(f"Content-Length: {len(body)}", body=body)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as kept:
        for _ in range(20):
            kept.sendall(request)
            assert kept.recv(10_000).endswith(b'{"data":{"hello":"\\ud83d\\udc4b"}}')


def test_a_body_too_large_is_refused_unread(connection: http.client.HTTPConnection) -> None:
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(Limits().body_bytes + 1))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert response.getheader("Connection") == "close"
    response.read()


def test_a_body_without_a_length(served: Api, connection: http.client.HTTPConnection) -> None:
    connection.putrequest("POST", "/")
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, response.getheader("Connection")) == (411, "close")
    response.read()


BODY = b'{"query": "{ hello }"}'
HELLO = b'{"data":{"hello":"\\ud83d\\udc4b"}}'


def talk(served: Api, sent: bytes) -> bytes:
    """Send bytes, say that there are no more, and return all that comes back until the API hangs up."""
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as opened:
        opened.sendall(sent)
        opened.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: opened.recv(65_536), b""))


def post(*headers: str, version: str = "1.1", body: bytes = BODY) -> bytes:
    """Return a request as bytes."""
    usual = (f"POST / HTTP/{version}", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join([*usual, *headers, "", ""]).encode() + body


LENGTH = f"Content-Length: {len(BODY)}"


def test_requests_one_after_another_without_waiting(served: Api) -> None:
    answers = talk(served, post(LENGTH) * 3)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(HELLO) == 3
    assert b"Connection: close" not in answers


@pytest.mark.parametrize("head", [("1.1", "connection:close"), ("1.0", "accept:*/*")])
def test_a_connection_that_is_not_to_be_kept(served: Api, head: tuple[str, str]) -> None:
    answers = talk(served, post(LENGTH.lower(), head[1], version=head[0]) * 2)
    assert answers.count(HELLO) == answers.count(b"Connection: close\r\n") == 1


def test_a_client_that_waits_to_be_told_to_go_on(served: Api) -> None:
    answers = talk(served, post(LENGTH, "Expect: 100-continue"))
    assert answers.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answers.endswith(HELLO)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"FROB / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (post(LENGTH, "no colon"), 400),
        (post(f"{LENGTH}", "Content-Length: 3"), 400),
        (post("Content-Length: -3"), 411),
        (post("Content-Length: +3"), 411),
        (post(f"Content-Length: {'9' * 5000}"), 413),
        (post(LENGTH, "Transfer-Encoding: chunked"), 411),
        (post(LENGTH, f"X: {'x' * 70_000}"), 431),
        (post(LENGTH, *(f"X{number}: x" for number in range(200))), 431),
    ],
)
def test_heads_that_are_refused(served: Api, sent: bytes, status: int) -> None:
    answer = talk(served, sent + post(LENGTH))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nConnection: close" in head
    assert json.loads(body)["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


def test_a_body_where_none_is_read(served: Api) -> None:
    answers = talk(
        served, b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nPOST / HT" + post(LENGTH)
    )
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"Connection: close\r\n") == 1


def test_a_client_that_goes_away_in_the_middle(served: Api) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as half:
        half.sendall(b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"query": ')
    assert talk(served, b"POST / HTTP/1.1\r\nHost: x\r\n") == b""
    assert served.graphql("{ hello }") == {"hello": "👋"}
    assert served.console.count("\n") == 1


def test_health_and_strange_paths(served: Api) -> None:
    assert served.request("GET", "/health") == (200, b'{"status":"ok"}')
    status, text = served.request("GET", "/favicon.ico")
    assert (status, json.loads(text)["errors"][0]["extensions"]["code"]) == (404, "NOT_FOUND")


def test_stats_count_requests_and_operations_by_agent(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        api.graphql("{ a: hello b: hello }")
        agent = api.register_agent()
        api.queue(agent_id=agent)
        api.queue(agent_id=agent)
        counters = api.stats()
        assert counters["operations"] == {"hello": 2, "tenant": 1, "register_agent": 1, "get_runs_in_queue": 2}
        assert counters["agents"][agent] == {"requests": 2, "operations": {"get_runs_in_queue": 2}}
        assert (api.count_requests(), api.count_requests(agent), api.count_requests("")) == (5, 2, 3)
        assert counters["connections"] == 6
