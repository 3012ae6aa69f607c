"""Typed getters: a wrong field is named by its whole path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from local_agent.backends.prefect1.fields import (
    WrongFieldError,
    get_int,
    get_list,
    get_object,
    get_str,
    get_time,
    within,
)

_OBJ = {
    "text": "a",
    "number": 7,
    "yes": True,
    "nothing": None,
    "object": {"a": 1},
    "json": '{"a": 1}',
    "broken": "{",
    "list": [{"id": "x"}, {"id": 3}],
    "mixed": [{"id": "x"}, "y"],
    "z": "2026-03-01T12:00:00+00:00",
}


def test_what_is_as_it_should_be() -> None:
    assert get_str(_OBJ, "text") == "a"
    assert get_int(_OBJ, "number") == 7
    assert get_object(_OBJ, "object") == {"a": 1}
    assert get_object(_OBJ, "json") == {"a": 1}, "Hasura gives some JSON columns as text"
    assert get_list(_OBJ, "list", lambda item: str(item["id"])) == ("x", "3")


def test_a_default_stands_in_for_missing_and_null_only() -> None:
    assert get_str(_OBJ, "nothing", "") == get_str(_OBJ, "missing", "") == ""
    assert get_int(_OBJ, "nothing", 0) == 0
    assert get_object(_OBJ, "nothing", {}) == {}
    with pytest.raises(WrongFieldError):
        get_str(_OBJ, "number", "")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda: get_str(_OBJ, "missing"), "missing: missing"),
        (lambda: get_str(_OBJ, "nothing"), "nothing: missing"),
        (lambda: get_str(_OBJ, "number"), "number: int where str is due"),
        (lambda: get_int(_OBJ, "text"), "text: str where int is due"),
        (lambda: get_int(_OBJ, "yes"), "yes: bool where int is due"),
        (lambda: get_object(_OBJ, "list"), "list: list where dict is due"),
        (lambda: get_object(_OBJ, "broken"), "broken: not JSON"),
        (lambda: get_list(_OBJ, "object", str), "object: dict where list is due"),
        (lambda: get_list(_OBJ, "list", lambda item: get_str(item, "id")), "list[1].id: int where str is due"),
        (lambda: get_list(_OBJ, "mixed", lambda item: get_str(item, "id")), "mixed[1]: str where an object is due"),
        (lambda: get_time(_OBJ, "text"), "text: 'a' is no ISO 8601 time"),
        (lambda: get_time(_OBJ, "number"), "number: int where str is due"),
    ],
)
def test_what_is_not_is_named(read: Callable[[], object], words: str) -> None:
    with pytest.raises(WrongFieldError) as caught:
        read()
    assert str(caught.value) == words


def test_a_path_grows_from_the_outside() -> None:
    with pytest.raises(WrongFieldError) as caught, within("flow"), within("storage"):
        get_str({}, "type")
    assert str(caught.value) == "flow.storage.type: missing"


@pytest.mark.parametrize(
    "text",
    ["2026-03-01T12:00:00+00:00", "2026-03-01T14:00:00.000000+02:00", "2026-03-01T12:00:00", "2026-03-01T12:00:00Z"],
)
def test_times_are_in_utc(text: str) -> None:
    time = get_time({"at": text}, "at")
    assert time == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert time is not None
    assert time.tzinfo is UTC
    assert get_time({"at": None}, "at") is None
