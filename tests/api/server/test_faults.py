"""The faulty proxy does to requests what its rules say, and nothing else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from support.api import Api
from support.faults import FaultyProxy

HELLO = b'{"query": "{ hello }"}'
ANSWER = (200, b'{"data":{"hello":"\\ud83d\\udc4b"}}')


@pytest.fixture
def proxy(served: Api) -> Iterator[FaultyProxy]:
    """A proxy in front of the API of this file."""
    with FaultyProxy(served.url) as running:
        yield running


def ask(proxy: FaultyProxy, body: bytes = HELLO) -> tuple[int, bytes]:
    """Send a request through the proxy on a connection of its own."""
    address = urlsplit(proxy.url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as connection:
        connection.request("POST", "/", body, {"X-PREFECT-AGENT-ID": "a1", "Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


def test_without_rules_it_passes_everything_on(served: Api, proxy: FaultyProxy) -> None:
    before = served.count_requests("a1")
    assert ask(proxy) == ask(proxy) == ANSWER
    assert served.count_requests("a1") - before == 2
    assert (proxy.requests, proxy.connections, proxy.count("hello"), proxy.count("nothing")) == (2, 2, 2, 0)


def test_a_lost_answer_is_of_a_request_that_was_done(served: Api, proxy: FaultyProxy) -> None:
    run = served.create_flow_run(served.create_flow())
    rule = proxy.lose_answer("set_flow_run_name")
    given = f'{{flow_run_id: "{run}", name: "renamed"}}'
    query = f"mutation {{ set_flow_run_name(input: {given}) {{ success }} }}"
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxy, json.dumps({"query": query}).encode())
    rule.wait_until_finished()
    assert served.flow_run(run)["name"] == "renamed"
    assert ask(proxy) == ANSWER


def test_a_refused_request_does_not_reach_the_api(served: Api, proxy: FaultyProxy) -> None:
    proxy.refuse("hello", times=1)
    before = served.count_requests("a1")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxy)
    assert served.count_requests("a1") == before
    assert ask(proxy) == ANSWER


def test_answers_of_its_own(proxy: FaultyProxy) -> None:
    proxy.answer(503, "hello", times=2)
    assert [ask(proxy)[0] for _ in range(3)] == [503, 503, 200]
    proxy.answer_html()
    status, text = ask(proxy)
    assert (status, text[:15]) == (200, b"<!DOCTYPE html>")
    proxy.clear()
    proxy.answer_errors("no", code="UNAUTHENTICATED", times=1)
    assert b'"code": "UNAUTHENTICATED"' in ask(proxy)[1]
    assert ask(proxy) == ANSWER


def test_the_newest_rule_wins(proxy: FaultyProxy) -> None:
    proxy.answer(500)
    proxy.answer(429, "hello", times=1)
    assert [ask(proxy)[0] for _ in range(2)] == [429, 500]


def test_a_request_is_held_until_it_is_let_go(proxy: FaultyProxy) -> None:
    rule, release = proxy.hold("hello")
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(proxy)))
    asking.start()
    rule.wait_for_hits()
    assert answers == []
    release.set()
    asking.join()
    assert answers == [ANSWER]


def test_closing_cuts_what_is_under_way_and_it_comes_back_on_its_port(served: Api) -> None:
    proxy = FaultyProxy(served.url)
    proxy.start()
    url = proxy.url
    rule = proxy.delay(600)
    failures: list[BaseException] = []
    asking = threading.Thread(target=_note_failure, args=(proxy, failures))
    asking.start()
    rule.wait_for_hits()
    proxy.close()
    asking.join()
    assert len(failures) == 1
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    proxy.clear()
    with proxy:
        assert proxy.url == url
        assert ask(proxy) == ANSWER


def _note_failure(proxy: FaultyProxy, failures: list[BaseException]) -> None:
    try:
        ask(proxy)
    except (OSError, http.client.HTTPException) as error:
        failures.append(error)


def test_an_api_that_is_down_looks_so_through_the_proxy() -> None:
    with FaultyProxy("http://127.0.0.1:9") as proxy, pytest.raises(http.client.RemoteDisconnected):
        ask(proxy)
