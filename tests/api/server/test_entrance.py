"""What comes in can go out: what SQLite could not read back, or no run could use, is refused with its path."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from api.server.local import LocalApi, local_api
from local_agent.errors import StateError
from local_agent.server.data import datafile, intervals
from local_agent.server.input import json_text
from local_agent.server.input.refusals import RefusedError
from support.api_client import ApiError, serialized_flow

TASK = {"name": "a", "slug": "a-1"}


def nested(depth: int) -> str:
    """Return JSON with lists within lists."""
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [300, 900, 1500, 20_000])
def test_json_nested_too_deeply_is_refused_with_its_path(depth: int) -> None:
    with pytest.raises(json_text.RefusedJsonError, match=r"more than 256 deep at i\.parameters\.x\[1\]\[0\]"):
        json_text.parse(f'{{"i": {{"flow_id": "[,", "parameters": {{"x": [0, {nested(depth)}]}}}}}}')


def test_json_nested_as_deeply_as_is_allowed_comes_back(api: LocalApi) -> None:
    deep = json.loads(nested(200))
    run = api.create_flow_run(api.create_flow(), parameters={"x": deep})
    query = "{ flow { flow_runs { flow { flow_runs { parameters } } } } }"
    assert api.flow_run(run, "parameters") == {"parameters": {"x": deep}}
    assert api.graphql(query)["flow"][0]["flow_runs"][0]["flow"]["flow_runs"][0]["parameters"] == {"x": deep}


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "9" * 5000, "[" * 100_001, "[" + "," * 1_000_001, "{"]
)
def test_what_is_no_json_or_too_much_of_it(text: str) -> None:
    with pytest.raises(json_text.RefusedJsonError):
        json_text.parse(text)


def test_brackets_in_texts_are_no_objects(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow())
    line = '[{"a": 1}, {"b": [2, 3]}] ' * 40_000
    api.mutate("write_run_logs", {"logs": [{"flow_run_id": run, "message": line}]})
    assert api.messages(run) == [line]


def test_deep_json_of_an_earlier_version_hides_only_itself(api: LocalApi) -> None:
    one, other = api.create_flow_runs(api.create_flow(), 2)
    deep = f'{{"x": {nested(3000)}}}'
    with api.database.transaction(writes=True):
        api.database.write("UPDATE flow_run SET parameters = ? WHERE id = ?", (deep, one))
    found = api.graphql("{ flow_run(order_by: {created: asc}) { id parameters } }")["flow_run"]
    assert found == [{"id": one, "parameters": None}, {"id": other, "parameters": {}}]
    assert sorted(api.queue()) == sorted([one, other])


def test_escapes_in_a_document(api: LocalApi) -> None:
    flow = api.create_flow()
    name = "a\\u0000bc\\u00e9"
    created = f'mutation {{ create_flow_run(input: {{flow_id: "{flow}", flow_run_name: "{name}"}}) {{ id }} }}'
    run = api.graphql(created)["create_flow_run"]["id"]
    assert api.flow_run(run, "name")["name"] == "a\N{REPLACEMENT CHARACTER}bcé"
    assert len(api.graphql(f'{{ flow_run(where: {{name: {{_eq: "{name}"}}}}) {{ id }} }}')["flow_run"]) == 1


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"tasks": 5}, "tasks must be a list, not 5"),
        ({"tasks": [1]}, "tasks[0] must be an object, not 1"),
        ({"tasks": [{"name": "a"}]}, "tasks[0] has none"),
        ({"tasks": [TASK, {**TASK, "slug": ["b"]}]}, "tasks[1].slug must be a text, not a list"),
        ({"tasks": [{**TASK, "max_retries": 2**63}]}, "tasks[0].max_retries must be a whole number of 64 bits"),
        ({"tasks": [{**TASK, "max_retries": "x"}]}, "tasks[0].max_retries must be a whole number"),
        ({"tasks": [{**TASK, "tags": {}}]}, "tasks[0].tags must be a list, not an object"),
        ({"tasks": [{**TASK, "retry_delay": "hello there"}]}, "tasks[0].retry_delay: invalid duration format"),
        ({"tasks": [{**TASK, "cache_key": 7}]}, "tasks[0].cache_key must be a text, not 7"),
        ({"edges": [{"upstream_task": 5, "downstream_task": "a-1"}]}, "edges[0].upstream_task must be a text"),
        ({"name": ["f"]}, "name must be a text, not a list"),
        ({"run_config": "abc"}, "run_config must be an object, not a text"),
        ({"run_config": {"labels": [1, "a"]}}, "run_config.labels[0] must be a text, not 1"),
        ({"environment": {"labels": "a"}}, "environment.labels must be a list, not a text"),
        ({"storage": []}, "storage must be an object, not a list"),
        ({"parameters": [1]}, "parameters[0] must be an object, not 1"),
        ({"parameters": [{"default": 1}]}, "parameters[0].name must be a text, not null"),
        ({"schedule": {"clocks": [5]}}, "schedule.clocks[0] must be an object, not 5"),
        ({"__version__": 1}, "__version__ must be a text, not 1"),
        ({"__version__": "0.6.0"}, "new flows to be built with Prefect 0.6.1+, but this flow was built with"),
    ],
)
def test_a_flow_that_could_never_run_is_refused(api: LocalApi, part: dict[str, Any], says: str) -> None:
    with pytest.raises(ApiError) as refused:
        api.register({**serialized_flow("f"), **part})
    assert says in str(refused.value)
    assert api.graphql("{ flow { id } task { id } }") == {"flow": [], "task": []}
    assert api.said == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"parameters": [1]}, "parameters must be an object, not a list"),
        ({"parameters": "x"}, "parameters must be an object, not a text"),
        ({"context": 5}, "context must be an object, not 5"),
        ({"run_config": "abc"}, "run_config must be an object, not a text"),
        ({"run_config": {"labels": [["a"]]}}, "run_config.labels[0] must be a text, not a list"),
        ({"labels": [f"l{number}" for number in range(301)]}, "At most 300 labels"),
    ],
)
def test_a_flow_run_that_could_never_run_is_refused(api: LocalApi, given: dict[str, Any], says: str) -> None:
    flow = api.create_flow()
    with pytest.raises(ApiError) as refused:
        api.create_flow_run(flow, **given)
    assert says in str(refused.value)
    assert api.said == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (660, "00:11:00"),
        (0, "00:00:00"),
        (90_000.5, "25:00:00.5"),
        ("00:01:30", "00:01:30"),
        ("1 02:00:00", "26:00:00"),
        ("PT11M", "00:11:00"),
        (-1.25, "-00:00:01.25"),
        (None, None),
    ],
)
def test_retry_delays_are_written_as_postgresql_does(value: object, text: str | None) -> None:
    assert intervals.from_json(value, "x") == text


@pytest.mark.parametrize("value", ["", "x", True, [], {}, float("inf"), 1e300, 10**400, "9" * 400])
def test_what_is_no_span_of_time(value: object) -> None:
    with pytest.raises(RefusedError, match="x: invalid duration format"):
        intervals.from_json(value, "x")


def test_retry_delays_of_an_earlier_version_are_rewritten(tmp_path: Path) -> None:
    with local_api(tmp_path / "server.db") as api:
        api.create_flow()
        api.database.write("CREATE INDEX flow_run_4 ON flow_run (state)")
        api.database.write("UPDATE task SET retry_delay = '660'")
    with local_api(tmp_path / "server.db") as api:
        assert api.graphql("{ task { retry_delay } }") == {"task": [{"retry_delay": "00:11:00"}]}


def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "server.db"
    with local_api(data) as api:
        api.create_flow_runs(api.create_flow(), 200)
    whole = data.read_bytes()
    page = 4096
    damaged = bytearray(whole)
    for number in range(len(whole) // page // 2, len(whole) // page):
        damaged[number * page : number * page + 64] = b"\xff" * 64
    data.write_bytes(damaged)
    with pytest.raises(StateError, match="is damaged") as refused, local_api(data):
        pass
    assert "backup" in refused.value.hint
    assert ".recover" in refused.value.hint


def test_a_file_too_large_to_be_checked_is_said_to_be(tmp_path: Path) -> None:
    data = tmp_path / "server.db"
    with local_api(data) as api:
        api.database.write("CREATE TABLE large (what TEXT)")
        many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        api.database.write(f"INSERT INTO large {many} SELECT hex(randomblob(300)) FROM n")
    said: list[str] = []
    datafile.open_writer(data, said.append, check_seconds=0.0001).close()
    (line,) = said
    assert "too large to be checked whole in 0.0001 s" in line
    assert "PRAGMA quick_check" in line


def test_a_backup_can_be_made_while_it_serves(api: LocalApi, tmp_path: Path) -> None:
    api.create_flow_run(api.create_flow())
    source, copy = sqlite3.connect(tmp_path / "server.db"), sqlite3.connect(tmp_path / "copy.db")
    source.backup(copy)
    source.close()
    assert copy.execute("SELECT count(*) FROM flow_run").fetchone() == (1,)
    copy.close()


def test_the_first_tenant_stays_the_first(api: LocalApi) -> None:
    first = api.tenant_id
    for number in range(12):
        api.mutate("create_tenant", {"name": f"t{number}", "slug": f"t-{number}"})
        for fields in ("id", "id slug", "slug id name"):
            assert api.graphql(f"{{ tenant {{ {fields} }} }}")["tenant"][0]["id"] == first
    assert api.graphql("{ tenant(limit: 1, order_by: {settings: asc}) { id } }")["tenant"] == [{"id": first}]


def test_input_types_are_the_servers(api: LocalApi) -> None:
    flow = api.create_flow()
    switches = [f"{on}_flow_{what}" for on in ("disable", "enable") for what in ("heartbeat", "lazarus_process")]
    for name in (*switches, "archive_flow", "delete_flow"):
        query = f"mutation($i: {name}_input!) {{ {name}(input: $i) {{ success }} }}"
        assert api.graphql(query, {"i": {"flow_id": flow}}) == {name: {"success": True}}


def test_a_schedule_needs_what_its_parameters_need(api: LocalApi) -> None:
    clock = {"type": "CronClock", "cron": "* * * * *", "parameter_defaults": {}}
    needed = [{"name": "a", "slug": "a", "required": True}]
    flow = api.create_flow(parameters=needed, schedule={"clocks": [clock]})
    assert api.graphql("{ flow { is_schedule_active } }") == {"flow": [{"is_schedule_active": False}]}
    with pytest.raises(ApiError, match="Can not schedule a flow that has required parameters"):
        api.mutate("set_schedule_active", {"flow_id": flow})
    group = api.graphql("{ flow_group { id } }")["flow_group"][0]["id"]
    api.graphql(
        "mutation($i: set_flow_group_default_parameters_input!)"
        " { set_flow_group_default_parameters(input: $i) { success } }",
        {"i": {"flow_group_id": group, "parameters": {"a": 1}}},
    )
    assert api.mutate("set_schedule_active", {"flow_id": flow})["success"] is True


@pytest.mark.parametrize("kind", [["Success"], {"a": 1}, 5, None, "x" * 10_000])
def test_a_state_of_no_type(api: LocalApi, kind: object) -> None:
    run = api.create_flow_run(api.create_flow())
    with pytest.raises(ApiError, match="Unsupported value"):
        api.set_state(run, {"type": kind})
    assert api.said == []


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "upper", "bare"])
def test_an_id_in_any_form_that_postgresql_reads(api: LocalApi, form: str) -> None:
    run = api.create_flow_run(api.create_flow())
    given = {"upper": run.upper(), "bare": run.replace("-", "")}.get(form) or form.format(run)
    found = api.graphql("query($i: uuid!) { flow_run_by_pk(id: $i) { id } }", {"i": given})
    assert found == {"flow_run_by_pk": {"id": run}}


@pytest.mark.parametrize(
    "given", ["\u0660" * 32, "1_" * 16, " " + "0" * 32, "0" * 32 + "\n", "' OR 1=1 --", "\uff10" * 32]
)
def test_what_only_python_takes_for_an_id(api: LocalApi, given: str) -> None:
    for query in (
        "query($i: uuid!) { flow_run_by_pk(id: $i) { id } }",
        "query($i: uuid!) { flow_run(where: { id: { _eq: $i } }) { id } }",
        "mutation($i: UUID!) { delete_flow_run(input: { flow_run_id: $i }) { success } }",
    ):
        with pytest.raises(ApiError, match="is no UUID"):
            api.graphql(query, {"i": given})
