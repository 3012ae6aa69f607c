"""Typed getters: a wrong field is named by its whole path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from local_agent.backends.fields import (
    WrongFieldError,
    get_id,
    get_int,
    get_list,
    get_object,
    get_str,
    get_time,
    load_json,
    within,
)
from local_agent.units.names import new_id_of_nobody
from support.samples import RUN_ID

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
        (lambda: get_list(_OBJ, "mixed", lambda item: get_str(item, "id")), "mixed[1].id: str where an object is due"),
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


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59",
        "0001-01-01",
        "now",
        "2026-02-30T00:00",
        "\ud800",
        "2026-03-01T12:00:00+00:00" * 1000,
    ],
)
def test_a_time_that_cannot_be_counted_with_is_wrong(text: str) -> None:
    with pytest.raises(WrongFieldError):
        get_time({"at": text}, "at")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 5_000 + b"]" * 5_000,
        b"[" * 200_000,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b"NaN",
        b'{"a": [Infinity]}',
        b"1e999",
        b"9" * 5_000,
        b"\xff\xfe",
        b'"\xff"',
        b"",
        b"{} {}",
    ],
)
def test_what_cannot_be_written_again_is_no_json(text: bytes) -> None:
    with pytest.raises(WrongFieldError):
        load_json(text)


def test_the_deepest_json_that_is_taken() -> None:
    assert load_json(b"[" * 100 + b"]" * 100)
    assert [load_json(text) for text in (b"null", b"5", b'"text"', b"[]")] == [None, 5, "text", []]
    assert get_object({"json": '{"a": NaN}', "ok": "{}"}, "ok") == {}
    with pytest.raises(WrongFieldError, match="json: not JSON"):
        get_object({"json": '{"a": NaN}'}, "json")


@pytest.mark.parametrize(
    "value",
    [
        "../../etc/cron.d/x",
        "",
        f"{RUN_ID}\n",
        f"{RUN_ID}\0",
        f"../{RUN_ID}",
        RUN_ID.upper(),
        RUN_ID.replace("-", ""),
        "\uff10" + RUN_ID[1:],
        pytest.param(new_id_of_nobody(), id="of nobody"),  # no tool shows the scope of such a one; it is new each time
        5,
        None,
        [RUN_ID],
    ],
)
def test_an_id_is_a_uuid(value: object) -> None:
    assert get_id({"id": RUN_ID}, "id") == RUN_ID
    with pytest.raises(WrongFieldError):
        get_id({"id": value}, "id")


@pytest.mark.parametrize("obj", [None, 5, "text", [], True])
def test_what_is_no_object_has_no_fields(obj: object) -> None:
    for read in (get_str, get_int, get_object, get_time, get_id):
        with pytest.raises(WrongFieldError, match="where an object is due"):
            read(obj, "a")  # type: ignore[arg-type]  # whoever answers chooses the type


def test_numbers_are_those_that_every_parser_keeps() -> None:
    assert get_int({"n": 2**53}, "n") == 2**53
    with pytest.raises(WrongFieldError, match="n: out of bounds"):
        get_int({"n": 2**53 + 1}, "n")
