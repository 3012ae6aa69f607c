"""Who is let in, and what an answer means before anybody reads it as a run."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_agent.backends.prefect3.access import Access, headers_of
from local_agent.backends.prefect3.answers import CsrfError, is_missing, understood
from local_agent.backends.replies import Reply
from local_agent.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    ConfigError,
    CredentialError,
    LocalAgentError,
    NotUnderstoodError,
)

_URL = "http://api/api"


def _asked(status: int, content: bytes = b"{}", *, has_credentials: bool = True) -> object:
    return understood(Reply(status, {}, content), _URL, has_credentials=has_credentials)


def test_an_auth_string_wins_over_a_key() -> None:
    assert Access(_URL).authorization == ""
    assert Access(_URL, api_key="pnu_1").authorization == "Bearer pnu_1"
    assert Access(_URL, api_key="pnu_1", auth_string="admin:pass").authorization == "Basic YWRtaW46cGFzcw=="


def test_no_secret_is_shown() -> None:
    shown = repr(Access(_URL, api_key="SECRET", auth_string="a:SECRET", headers={"X": "SECRET"}))
    assert "SECRET" not in shown


def test_custom_headers() -> None:
    assert headers_of("") == {}
    assert headers_of('{"X-Team": "data", "authorization": "Basic x"}') == {"X-Team": "data"}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": "b\\r\\nc: d"}', '{"a\\n": "b"}', "null"])
def test_custom_headers_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="PREFECT_CLIENT_CUSTOM_HEADERS"):
        headers_of(text)


def test_what_an_answer_means() -> None:
    assert _asked(201, b'{"a": 1}') == {"a": 1}
    assert _asked(204, b"") is None
    with pytest.raises(CredentialError, match="does not accept"):
        _asked(401)
    with pytest.raises(CredentialError, match="none are set"):
        _asked(401, has_credentials=False)
    with pytest.raises(CsrfError):
        _asked(403, b'{"detail":"Missing CSRF token."}')
    with pytest.raises(CredentialError):
        _asked(403, b'{"detail":"Forbidden"}')
    with pytest.raises(NotUnderstoodError):
        _asked(200, b"OK")


@pytest.mark.parametrize("status", [301, 407, 408, 429, 500, 502, 503, 504])
def test_not_now(status: int) -> None:
    with pytest.raises(ApiUnreachableError):
        _asked(status, b'{"exception_message":"Service Unavailable"}')


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
def test_a_web_page_is_not_the_apis_word(status: int) -> None:
    with pytest.raises(ApiUnreachableError):
        _asked(status, b"<html>")


def test_a_refusal_says_why_and_which() -> None:
    with pytest.raises(ApiRefusedError, match="HTTP 422: extra fields not permitted") as raised:
        _asked(422, b'{"detail":"extra fields not permitted"}')
    assert not is_missing(raised.value)
    with pytest.raises(ApiRefusedError) as raised:
        _asked(404, b'{"detail":"Not Found"}')
    assert is_missing(raised.value)


@given(st.integers(100, 599), st.binary(max_size=50))
def test_any_answer_is_understood_or_one_of_our_errors(status: int, content: bytes) -> None:
    with contextlib.suppress(LocalAgentError):
        _asked(status, content)
