"""Every answer is GraphQL or one of our errors, in words and in time."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from local_agent.backends.prefect1 import Transport
from local_agent.backends.replies import Reply, pause_asked_for
from local_agent.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    CredentialError,
    LocalAgentError,
    NotUnderstoodError,
    TooLargeError,
)
from support.api import Api
from support.faults import FaultyProxy
from support.raw_http import RawServer

_HELLO = "query { hello }"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_HELLO_ANSWER = b'{"data": {"hello": "hi"}}'


@asynccontextmanager
async def _transport(url: str, *, timeout_seconds: float = 20.0, key: str = "") -> AsyncIterator[Transport]:
    transport = Transport(url, api_key=key, tenant_id="", timeout_seconds=timeout_seconds)
    try:
        yield transport
    finally:
        transport.close()


async def _error(url: str, *, key: str = "", timeout_seconds: float = 20.0) -> LocalAgentError:
    async with _transport(url, timeout_seconds=timeout_seconds, key=key) as transport:
        with pytest.raises(LocalAgentError) as caught:
            await transport.ask(_HELLO)
        assert "\n" not in caught.value.message
        return caught.value


async def test_an_answer(api: Api) -> None:
    async with _transport(api.url) as transport:
        assert (await transport.ask(_HELLO)).data == {"hello": "\N{WAVING HAND SIGN}"}


async def test_connections_are_kept_and_few(proxy: FaultyProxy) -> None:
    async with _transport(proxy.url) as transport:
        for _ in range(20):
            await transport.ask(_HELLO)
        assert (proxy.requests, proxy.connections) == (20, 1)


async def test_a_kept_connection_that_was_cut_is_no_outage_for_long(proxy: FaultyProxy) -> None:
    async with _transport(proxy.url) as transport:
        await transport.ask(_HELLO)
        proxy.drop_connections()
        try:
            await transport.ask(_HELLO)
        except ApiUnreachableError:
            await transport.ask(_HELLO)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, "<html>It works!</html>", "text/html", "answers HTTP 200 with a web page, not GraphQL"),
        (503, "<html>down</html>", "text/html", "answers HTTP 503 with a web page, not GraphQL"),
        (403, "<html>blocked by the proxy</html>", "text/html", "answers HTTP 403 with a web page, not GraphQL"),
        (500, "", "text/plain", "answers HTTP 500 with an empty body"),
        (429, "slow down", "text/plain", "answers HTTP 429 with 9 bytes of text/plain, not GraphQL"),
        (500, '{"data": {"hello": "hi"}}', "application/json", "answers HTTP 500"),
        (302, "", "text/plain", "answers HTTP 302 with an empty body"),
        (200, '{"hello": "hi"}', "application/json", "bytes of application/json, not GraphQL"),
        (200, '["data"]', "application/json", "not GraphQL"),
        (200, '{"data": {"hello"', "application/json", "not GraphQL"),
        (200, '{"errors": [{"message": "API_ERROR: try again"}]}', "application/json", "has a passing fault"),
    ],
)
async def test_what_is_no_answer_of_an_api(proxy: FaultyProxy, status: int, body: str, kind: str, words: str) -> None:
    proxy.answer(status, body=body, kind=kind)
    error = await _error(proxy.url)
    assert isinstance(error, ApiUnreachableError)
    assert words in error.message
    assert proxy.url in error.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, "no"),
        (403, '{"errors": [{"message": "no"}]}'),
        (200, '{"errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}'),
    ],
)
async def test_a_key_that_is_refused(proxy: FaultyProxy, status: int, body: str) -> None:
    proxy.answer(status, body=body, kind="application/json")
    error = await _error(proxy.url, key="s3cret")
    assert isinstance(error, CredentialError)
    assert "does not accept the API key" in error.message
    assert "s3cret" not in error.message + error.hint


async def test_a_key_that_is_missing(proxy: FaultyProxy) -> None:
    proxy.answer(401, body="no")
    error = await _error(proxy.url)
    assert isinstance(error, CredentialError)
    assert "asks for an API key, and none is set" in error.message


async def test_a_request_that_is_refused_as_a_whole(api: Api) -> None:
    async with _transport(api.url) as transport:
        with pytest.raises(ApiRefusedError, match="the API refuses: "):
            await transport.ask("query { nobody_knows_this }")


async def test_nobody_listens() -> None:
    with RawServer([]) as server:
        url = server.url
    error = await _error(url)
    assert isinstance(error, ApiUnreachableError)
    assert error.message == f"the API at {url} does not answer: Connection refused"
    assert error.hint


async def test_a_name_that_nobody_has() -> None:
    error = await _error("http://nobody.invalid:4200")
    assert isinstance(error, ApiUnreachableError)
    assert "http://nobody.invalid:4200 does not answer: " in error.message


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"not HTTP at all\r\n\r\n"],
        [_OK + b"Content-Length: 1000\r\n\r\n", b'{"data": '],
        [_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"],
        [_OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n", b"nope"],
    ],
    ids=["hung up", "no HTTP", "cut off", "a broken chunk", "broken compression"],
)
async def test_what_is_not_even_http(pieces: Iterable[bytes]) -> None:
    with RawServer(pieces) as server:
        error = await _error(server.url)
        assert isinstance(error, ApiUnreachableError)
        assert server.url in error.message
        assert "argument" not in error.message, "what the libraries say to themselves helps nobody"


def _trickled(head: bytes, body: bytes) -> Iterable[bytes]:
    return [head, *(body[index : index + 1] for index in range(len(body)))]


@pytest.mark.parametrize(
    "pieces",
    [
        _trickled(_OK + b"Content-Length: 400\r\n\r\n", b" " * 400),
        _trickled(b"", _OK + b"X-Long: " + b"x" * 400),
        _trickled(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 80),
    ],
    ids=["body", "headers", "chunks"],
)
async def test_a_trickle_is_cut_off_after_twice_the_timeout(pieces: Iterable[bytes]) -> None:
    with RawServer(pieces, pause_seconds=0.1) as server:
        began = time.monotonic()
        error = await _error(server.url, timeout_seconds=1.0)
        assert isinstance(error, ApiUnreachableError)
        assert "no answer in time" in error.message
        assert time.monotonic() - began < 20, "the whole answer would take 40 s"


async def test_silence_is_cut_off_after_the_timeout() -> None:
    with RawServer([_OK], pause_seconds=3600) as server:
        error = await _error(server.url, timeout_seconds=0.5)
    assert isinstance(error, ApiUnreachableError)
    assert error.message.endswith("does not answer: no answer in time")


async def test_a_slow_answer_is_waited_for() -> None:
    body = _HELLO_ANSWER
    head = _OK + f"Content-Length: {len(body)}\r\n\r\n".encode()
    with RawServer([head, body[:5], body[5:]], pause_seconds=0.3) as server:
        async with _transport(server.url) as transport:
            assert (await transport.ask(_HELLO)).data == {"hello": "hi"}


async def test_the_key_is_in_its_header_and_in_no_repr(api: Api) -> None:
    async with _transport(api.url, key="s3cret") as transport:
        assert "s3cret" not in repr(transport)


@pytest.mark.parametrize(
    "errors",
    [
        [{"message": "flow UNAUTHENTICATED: Malformed Authorization header in it", "extensions": {"code": "OTHER"}}],
        [{"message": "no flow is called UNAUTHENTICATED"}],
        [{"message": {"code": "UNAUTHENTICATED"}, "extensions": {"code": ["UNAUTHENTICATED"]}}],
    ],
)
async def test_a_key_is_not_refused_by_a_word_in_a_message(proxy: FaultyProxy, errors: list[object]) -> None:
    proxy.answer(200, body=json.dumps({"errors": errors, "data": None}), kind="application/json")
    assert isinstance(await _error(proxy.url, key="s3cret"), ApiRefusedError)


async def test_a_key_that_one_field_does_not_take_is_good_for_the_others(proxy: FaultyProxy) -> None:
    errors = [{"message": "no", "path": ["other"], "extensions": {"code": "UNAUTHENTICATED"}}]
    body = json.dumps({"data": {"hello": "hi", "other": None}, "errors": errors})
    proxy.answer(200, body=body, kind="application/json")
    async with _transport(proxy.url, key="s3cret") as transport:
        answer = await transport.ask(_HELLO)
    assert answer.data["hello"] == "hi"
    assert answer.error_of("hello") is None
    assert answer.error_of("other") is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors": 5}',
        b'{"errors": 5, "data": {"hello": 1}}',
        b'{"errors": [5, null, {"path": 5}, {"path": {"a": 1}}, {"extensions": 5}], "data": {"hello": 1}}',
        b'{"errors": [{"message": ["\\ud800\\u0000"], "path": "hello", "extensions": {"code": {}}}]}',
        b'{"data": {"hello": NaN}}',
        b'{"data": 5}',
        b'{"data": {"hello": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
        b'{"data": {"hello": ' + b"9" * 5_000 + b"}}",
        b'{"data": {"hello": "\xff"}}',
        b"[" * 100_000,
    ],
)
async def test_whatever_is_answered_is_an_answer_or_one_of_our_errors(body: bytes) -> None:
    with RawServer([_OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body]) as server:
        async with _transport(server.url) as transport:
            with contextlib.suppress(LocalAgentError):
                (await transport.ask(_HELLO)).error_of("hello")


async def test_a_redirect_says_where_to() -> None:
    head = b"HTTP/1.1 301 Moved\r\nLocation: https://u:s3cret@elsewhere.example/api\r\nContent-Length: 0\r\n\r\n"
    with RawServer([head]) as server:
        error = await _error(server.url)
    assert "redirects to https://u:***@elsewhere.example/api" in error.message
    assert "`api`" in error.hint


async def test_a_proxy_that_is_dead_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([]) as server:
        dead = server.url.removeprefix("http://")
    monkeypatch.setenv("http_proxy", f"http://me:s3cret@{dead}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    error = await _error("http://api.invalid:4200")
    assert isinstance(error, ApiUnreachableError)
    assert f"the proxy http://me:***@{dead} does not answer" in error.message
    assert "http_proxy" in error.hint


async def test_what_is_too_large_for_a_proxy_is_the_requests_own_fault(proxy: FaultyProxy) -> None:
    proxy.answer(413, body="<html>too large</html>", kind="text/html")
    assert isinstance(await _error(proxy.url), TooLargeError)


@pytest.mark.parametrize(("status", "asks_for_a_pause"), [(429, True), (503, True), (502, False)])
async def test_who_asks_to_be_left_alone_is(status: int, *, asks_for_a_pause: bool) -> None:
    head = f"HTTP/1.1 {status} Slow\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n".encode()
    with RawServer([head]) as server:
        async with _transport(server.url) as transport:
            messages = []
            for _ in range(2):
                with pytest.raises(ApiUnreachableError) as caught:
                    await transport.ask(_HELLO)
                messages.append(caught.value.message)
    assert f"answers HTTP {status}" in messages[0]
    assert ("asked to be left alone, for" in messages[1]) == asks_for_a_pause


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("99999999", 300.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("\u0667", 0.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 99 Mar 99999 11:00:00 GMT", 0.0),
    ],
)
def test_how_long_a_pause_is(header: str, seconds: float) -> None:
    headers = {"Retry-After": header, "Date": "Sun, 01 Mar 2026 12:00:00 GMT"}
    assert pause_asked_for(Reply(429, headers)) == seconds


async def test_user_and_password_in_the_url_are_sent_and_not_shown() -> None:
    asked: list[bytes] = []
    with RawServer([_OK + b"Content-Length: 4\r\n\r\nnope"], asked=asked) as server:
        url = server.url.replace("http://", "http://fl%40ws:s3%20cret@")
        error = await _error(url, key="a-key")
    assert b"authorization: basic " + base64.b64encode(b"fl@ws:s3 cret").lower() in b"".join(asked).lower()
    assert "***" in error.message
    assert "s3" not in error.message


async def test_a_proxy_that_wants_user_and_password_is_no_captive_portal() -> None:
    head = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="prefect"\r\nContent-Length: 6\r\n\r\n<html>'
    with RawServer([head]) as server:
        error = await _error(server.url)
    assert isinstance(error, CredentialError)
    assert "asks for a user and a password" in error.message


def _packed(body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(body) + packer.flush()


_GZIP, _ZLIB = 31, 15


def _as_answer(body: bytes, *headers: str) -> bytes:
    return _OK + "".join(f"{one}\r\n" for one in headers).encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", _GZIP), ("x-gzip", _GZIP), ("deflate", _ZLIB)])
async def test_an_answer_may_be_packed(coding: str, wbits: int) -> None:
    text = json.dumps({"data": {"hello": "hi" * 200_000}}).encode()
    packed = _as_answer(_packed(text, wbits), f"Content-Encoding: {coding}")
    with RawServer([packed[start : start + 300] for start in range(0, len(packed), 300)]) as server:
        async with _transport(server.url) as transport:
            assert (await transport.ask(_HELLO)).data == json.loads(text)["data"]


_HUGE: dict[str, Callable[[], bytes]] = {
    "packed": lambda: _as_answer(_packed(bytes(48 << 20), _GZIP), "Content-Encoding: gzip"),
    "packed twice": lambda: _as_answer(_packed(_packed(bytes(96 << 20), _GZIP), _GZIP), "Content-Encoding: gzip, gzip"),
    "packed and spoilt": lambda: _as_answer(_packed(_HELLO_ANSWER, _GZIP)[4:], "Content-Encoding: gzip"),
    "objects": lambda: _as_answer(b'{"data": {"hello": [' + b"{}," * (2 << 20) + b"1]}}"),
    "names": lambda: _as_answer(b'{"data": {' + b",".join(b'"%d":[]' % number for number in range(1 << 19)) + b"}}"),
    "text": lambda: _as_answer(b'{"data": {"hello": "' + b"x" * (17 << 20) + b'"}}'),
}


@pytest.mark.parametrize("what", _HUGE)
async def test_no_answer_takes_the_memory_of_the_machine(what: str) -> None:
    with RawServer([_HUGE[what]()]) as server:
        tracemalloc.start()
        try:
            error = await _error(server.url, timeout_seconds=60.0)
            most_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(error, NotUnderstoodError), error.message
    assert most_bytes < 40 << 20


async def test_a_proxys_word_takes_no_longer_than_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    word = b"HTTP/1.1" + b"1" * 600
    with RawServer([word[at : at + 1] for at in range(len(word))], pause_seconds=0.2) as server:
        monkeypatch.setenv("https_proxy", server.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        began = time.monotonic()
        error = await _error("https://api.invalid:4200", timeout_seconds=1.0)
    assert isinstance(error, ApiUnreachableError)
    assert time.monotonic() - began < 60, "all of it takes two minutes"
