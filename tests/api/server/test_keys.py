"""An API with a key, as Prefect Cloud has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.server.local import LocalApi, local_api
from support.api import Api
from support.api_client import ApiError, new_id

KEY = "s3cr3t-key"
BEARER = {"Authorization": f"Bearer {KEY}"}
AUTH_INFO = {"query": "{ auth_info { tenant_id } }"}


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[LocalApi]:
    """An API that asks for a key."""
    with local_api(tmp_path / "server.db", key=KEY) as api:
        yield api


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer sch\u00fcssel"},
        {**BEARER, "X-PREFECT-TENANT-ID": new_id()},
        {**BEARER, "X-PREFECT-TENANT-ID": "nonsense"},
    ],
)
def test_who_may_not_ask(keyed: LocalApi, headers: dict[str, str]) -> None:
    status, answer = keyed.post({"query": "{ hello }"}, headers=headers)
    assert (status, answer["data"]) == (200, None)
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "UNAUTHENTICATED"
    assert "UNAUTHENTICATED" in error["message"]
    assert KEY not in str(answer)


def test_who_may_ask(keyed: LocalApi) -> None:
    _, answer = keyed.post(AUTH_INFO, headers=BEARER)
    tenant = answer["data"]["auth_info"]["tenant_id"]
    _, answer = keyed.post({"query": "{ tenant { id } }"}, headers={**BEARER, "X-PREFECT-TENANT-ID": tenant})
    assert answer == {"data": {"tenant": [{"id": tenant}]}}


def test_the_tenant_header_chooses_the_tenant(keyed: LocalApi) -> None:
    query = 'mutation { create_tenant(input: {name: "T", slug: "t"}) { id } }'
    _, created = keyed.post({"query": query}, headers=BEARER)
    tenant = created["data"]["create_tenant"]["id"]
    _, answer = keyed.post(AUTH_INFO, headers={**BEARER, "X-PREFECT-TENANT-ID": tenant})
    assert answer["data"]["auth_info"]["tenant_id"] == tenant


def test_without_a_key_there_is_no_auth_info(api: LocalApi) -> None:
    with pytest.raises(ApiError, match="no API key"):
        api.graphql("{ auth_info { tenant_id } }")


def test_a_strange_key_is_not_looked_at_where_none_is_needed(api: LocalApi) -> None:
    assert api.post({"query": "{ hello }"}, headers=BEARER)[1] == {"data": {"hello": "👋"}}


def test_a_key_in_a_file_or_in_the_environment(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    with Api(tmp_path / "server.db", options=["--api-key-file", str(key_file)]) as api:
        with pytest.raises(ApiError, match="UNAUTHENTICATED"):
            api.graphql("{ hello }")
        assert api.graphql("{ hello }", headers=BEARER) == {"hello": "👋"}
        assert api.request("GET", "/stats")[0] == 401
        assert api.request("GET", "/stats", headers=BEARER)[0] == 200
        assert KEY not in Path(f"/proc/{api.pid}/cmdline").read_text()
    with Api(tmp_path / "other.db", key=KEY) as api:
        assert api.graphql("{ hello }") == {"hello": "👋"}
        assert KEY not in api.console
