"""The job that comes out of a work pool's template, a deployment and a flow run. The real worker's is compared in
tests/prefect/prefect3."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_agent.backends.prefect3.job import LIMITS, Asked, Job, job_of
from local_agent.errors import LaunchError
from support.generated import tried

PROCESS_POOL = {
    "job_configuration": {name: f"{{{{ {name} }}}}" for name in ("command", "env", "labels", "name", "working_dir")},
    "variables": {"type": "object", "properties": {"env": {"type": "object"}, "command": {"type": "string"}}},
}


@dataclass
class References:
    """What is at the API, and what was asked for."""

    blocks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def block(self, type_slug: str, name: str) -> Mapping[str, Any] | None:
        self.asked.append(f"{type_slug}.{name}")
        return self.blocks.get(f"{type_slug}.{name}")

    async def block_by_id(self, block_id: str) -> Mapping[str, Any] | None:
        self.asked.append(block_id)
        return self.blocks.get(block_id)

    async def variable(self, name: str) -> tuple[Any, ...]:
        self.asked.append(name)
        return (self.variables[name],) if name in self.variables else ()


def job(
    run: Mapping[str, Any] = {},
    *,
    deployment: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    references: References | None = None,
) -> Job:
    asked = Asked(PROCESS_POOL if template is None else template, deployment or {}, run)
    return asyncio.run(job_of(asked, references or References(), {"HOME": "/home/me"}))


def test_without_anything_there_is_nothing() -> None:
    assert job() == job(template={}) == Job()


def test_the_run_wins_over_its_deployment_and_environments_are_merged() -> None:
    deployment = {"env": {"A": "1", "B": "2"}, "command": "sleep 1", "working_dir": "/srv"}
    found = job({"env": {"B": 3, "C": None}, "command": "sleep 2"}, deployment=deployment)
    assert found == Job("sleep 2", {"A": "1", "B": "3", "C": None}, "/srv")


def test_a_dotted_name_is_a_place_in_a_table() -> None:
    assert job({"env.A": "1", "env.B": 2}).env == {"A": "1", "B": "2"}


def test_defaults_of_the_pool_are_the_least() -> None:
    pool = {
        "job_configuration": {"env": {"POOL": "p", "A": "pool"}, "command": "{{ program }} {{ count }}"},
        "variables": {"properties": {"env": {"default": {"A": "default"}}, "program": {"default": "sleep"}}},
    }
    assert job({"count": 3, "env": {"B": "b"}}, template=pool) == Job(
        "sleep 3", {"POOL": "p", "A": "default", "B": "b"}
    )


def test_limits_are_read_where_the_pool_knows_nothing_of_them() -> None:
    found = job({"memory": "1G", "tasks": 64, "nice": "5", "cpu": ""}, deployment={"memory": "2G", "runtime": "1h"})
    assert found.asked == {"memory_max": "1G", "tasks_max": "64", "nice": "5", "runtime_max": "1h"}


def test_a_pools_own_variable_of_that_name_is_no_limit() -> None:
    pool = {
        "job_configuration": {"command": "{{ runtime }} -m prefect.engine"},
        "variables": {"properties": {"runtime": {"default": "python3.12"}}},
    }
    assert job(template=pool) == Job("python3.12 -m prefect.engine")


def test_blocks_and_variables_are_read_once_each() -> None:
    references = References(
        {"secret.token": {"value": "s3cret"}, "json.db": {"host": "{{ prefect.variables.host }}"}}, {"host": "db1"}
    )
    env = {
        "TOKEN": "{{ prefect.blocks.secret.token }}",
        "AUTH": "Bearer {{ prefect.blocks.secret.token }}",
        "DB": "{{ prefect.blocks.json.db.host }}",
        "HOST": "{{ prefect.variables.host }}:{{ prefect.variables.no }}",
        "WHERE": "{{ $HOME }}/x",
    }
    pool = {"job_configuration": {"env": env}, "variables": {}}
    expected = {"TOKEN": "s3cret", "AUTH": "Bearer s3cret", "DB": "db1", "HOST": "db1:", "WHERE": "/home/me/x"}
    assert job(template=pool, references=references).env == expected
    assert sorted(references.asked) == ["host", "json.db", "no", "secret.token"]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"env": "PATH=/bin"}, "env"),
        ({"command": 3}, "command"),
        ({"working_dir": ["/srv"]}, "working_dir"),
        ({"memory": {"max": "1G"}}, "memory"),
        ({"tasks": True}, "tasks"),
        ({"a.b": 1, "a.b.c": 2}, "a.b"),
        ({"env": {"A": "{{ prefect.blocks.secret.gone }}"}}, "secret gone"),
        ({"env": {"A": "{{ prefect.blocks.secret }}"}}, "prefect.blocks.secret"),
        ({"env": {f"A{n}": f"{{{{ prefect.variables.v{n} }}}}" for n in range(200)}}, "200 variables"),
    ],
)
def test_what_is_wrong_is_named(run: Mapping[str, Any], says: str) -> None:
    with pytest.raises(LaunchError) as caught:
        job(run)
    assert says in caught.value.message
    assert caught.value.hint


def test_a_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(Asked({}, {"env": {"A": "s3cret"}}, {"env": {"A": "s3cret"}}))
    assert "s3cret" not in repr(job({"env": {"A": "s3cret"}}))


_texts = st.sampled_from(["", "a", "{{ a }}", "{{ prefect.blocks.a.b }}", "{{ prefect.variables.v }}", "é\0"])
_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        _texts,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "default", "env", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
_keys = st.sampled_from(["env", "command", "working_dir", "a", "a.b", "a.b[0]", "env.X", "..", *LIMITS])
_variables = st.dictionaries(_keys, _json, max_size=4)
_templates = st.one_of(
    st.dictionaries(st.sampled_from(["job_configuration", "variables", "x"]), _json, max_size=3),
    st.fixed_dictionaries(
        {
            "job_configuration": st.dictionaries(_keys, _json, max_size=4),
            "variables": st.fixed_dictionaries({"properties": _variables}),
        }
    ),
)


@tried(200, 20_000)
@given(template=_templates, deployment=_variables, run=_variables)
def test_any_json_becomes_a_job_or_is_refused(
    template: Mapping[str, Any], deployment: Mapping[str, Any], run: Mapping[str, Any]
) -> None:
    try:
        found = job(run, deployment=deployment, template=template)
    except LaunchError:
        return
    assert all(isinstance(text, str | None) for text in found.env.values())
