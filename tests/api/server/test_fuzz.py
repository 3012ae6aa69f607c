"""Whatever is made from the schema by chance has an answer, and none is a fault of the API."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from graphql import GraphQLObjectType
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from api.server.local import LocalApi, local_api
from local_agent.server.bounds.budget import DEFAULT
from local_agent.server.engine import the_schema
from support.documents import Maker, spoilt
from support.long_form import is_long_form

SEED = int(os.environ.get("SEED", "0")) or Random().randint(1, 10**9)
COUNT = int(os.environ.get("FUZZ_COUNT", "0")) or (100_000 if is_long_form() else 400)
_MAX_GROWTH_KIB = 150 * 1024


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    # One client alone need not wait for its turn.
    at_once = replace(DEFAULT, quick_document_bytes=DEFAULT.document_bytes, new_share=1000.0)
    with local_api(Path(tmp_path_factory.mktemp("fuzz")) / "server.db", budget=at_once) as filled:
        yield filled


def ids_of(api: LocalApi) -> list[str]:
    """Return ids of what is there now; what is not there is made."""
    flow = api.create_flow()
    run = api.create_flow_run(flow)
    task = api.task_runs(run)[0]
    project, group = api.graphql("{ project(limit: 1) { id } flow_group(limit: 1) { id } }").values()
    return [api.tenant_id, flow, run, task["id"], task["task"]["id"], project[0]["id"], group[0]["id"]]


@pytest.mark.timeout(3600 if is_long_form() else 120)
def test_whatever_comes_has_an_answer(api: LocalApi) -> None:
    print(f"SEED={SEED} COUNT={COUNT}")
    ids: list[str] = []
    done = 0

    @seed(SEED)
    @settings(
        max_examples=COUNT,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64))
    def ask(number: int) -> None:
        nonlocal done
        chance = Random(number)
        if done % 100 == 0:
            ids[:] = ids_of(api)
        done += 1
        body = Maker(the_schema(), chance, ids).document().body
        if chance.random() < 0.2:
            body = spoilt(body, chance)
        status, answer = api.post_all([body])[0]
        assert status in (200, 400), (number, body, answer)
        assert isinstance(answer, dict)
        assert "data" in answer or answer["errors"]
        faults = [line for line in api.said if "has a schedule" not in line]
        assert faults == [], (number, body)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ask()
    assert done >= COUNT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MAX_GROWTH_KIB
    # Nothing that came in keeps anything from going out.
    for table in ("flow", "flow_run", "task_run", "flow_run_state", "log", "key_value", "task_run_artifact"):
        shown = the_schema().type_map[table]
        assert isinstance(shown, GraphQLObjectType)
        columns = " ".join(name for name, each in shown.fields.items() if str(each.type) in _PLAIN)
        rows = api.graphql(f"{{ {table}(limit: 5000) {{ {columns} }} }}")[table]
        json.dumps(rows, allow_nan=False)


_PLAIN = ("String", "uuid", "Int", "Boolean", "timestamptz", "jsonb")
