"""Requests as the real prefect 1.4.1 sends them, one of each shape (recorded.json): each is understood.

That they do the right thing is shown with the real client in tests/prefect/server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, validate_schema

from api.server.local import LocalApi, local_api
from local_agent.server.graphql import schema

RECORDED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("recorded.json").read_text())

# Cloud makes and lists API keys; here there is one, and the administrator sets it.
ONLY_ON_CLOUD = ("create_api_key", "auth_api_key", "delete_api_key")


def only_on_cloud(recorded: dict[str, Any]) -> str:
    """Return the operation in a request that only Cloud has, or nothing."""
    return next((name for name in ONLY_ON_CLOUD if f" {name}" in recorded["query"]), "")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    with local_api(Path(tmp_path_factory.mktemp("recorded")) / "server.db") as empty:
        yield empty


@pytest.mark.parametrize("recorded", [each for each in RECORDED if not only_on_cloud(each)])
def test_is_understood(api: LocalApi, recorded: dict[str, Any]) -> None:
    # The data is not there, so that many are refused; but each for its own reason and none as not understood.
    body = {"query": recorded["query"], "variables": json.dumps(recorded["variables"])}
    status, answer = api.post(body)
    assert status == 200, answer
    assert not [line for line in api.said if "fault" in line]


@pytest.mark.parametrize("recorded", [each for each in RECORDED if only_on_cloud(each)])
def test_what_only_cloud_has_is_named(api: LocalApi, recorded: dict[str, Any]) -> None:
    status, answer = api.post(recorded)
    assert status == 400
    assert f"'{only_on_cloud(recorded)}'" in answer["errors"][0]["message"]


def test_schema_is_valid() -> None:
    # It is built without these checks when the API starts.
    assert validate_schema(build_schema(schema.text())) == []
