"""A job comes out of template, deployment and run as it does in Prefect's own process worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from local_agent.backends.prefect3.job import Asked, Job, job_of
from local_agent.errors import LaunchError
from support.generated import tried
from support.prefect3_oracle import Oracle, asked_of
from support.prefect3_venv import NEWEST, prefect3_python

_BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "secret.token": {"value": "s3cret"},
    "secret.pair": {"value": {"user": "me", "list": [1, {"x": "y"}]}},
    "docker.two": {"value": 1, "values": {"value": "deep"}},
    "json.region": {"value": "{{ prefect.variables.region }}"},
    "empty.none": {},
}
_BLOCKS_BY_ID: Mapping[str, Mapping[str, Any]] = {
    "11111111-2222-3333-4444-555555555555": {"env": {"K": "{{ prefect.variables.number }}"}}
}
_VARIABLES = {"region": "eu-1", "number": 17, "table": {"a": [1, "b"]}, "nothing": None, "empty": ""}
_ENVIRON = {"LAB_HOME": "/srv/lab", "LAB_EMPTY": ""}

_names = st.sampled_from(
    [
        *(
            "a",
            "b",
            "env",
            "command",
            "working_dir",
            "a.b",
            "a[0]",
            "env.K",
            "a.b[1].c",
            "a.-1",
            "a.01",
            "text.0",
            "no",
        ),
        *("$LAB_HOME", "$LAB_EMPTY", "$NO_SUCH", "$$LAB_HOME", "$", "no"),
        *("prefect.variables.region", "prefect.variables.number", "prefect.variables.table"),
        *("prefect.variables.nothing", "prefect.variables.empty", "prefect.variables.no"),
        *("prefect.blocks.secret.token", "prefect.blocks.secret.token.value", "prefect.blocks.secret.pair.user"),
        *("prefect.blocks.secret.pair.value.list[1].x", "prefect.blocks.secret.pair.list.0", "prefect.blocks.secret"),
        *("prefect.blocks.docker.two.values.value", "prefect.blocks.docker.two.value", "prefect.blocks.json.region"),
        *("prefect.blocks.docker.two", "prefect.blocks.empty.none", "prefect.blocks.secret.pair.none"),
    ]
)
_placeholders = st.builds(
    "{{{{{}{}{}}}}}".format, st.sampled_from(["", " ", "\t "]), _names, st.sampled_from(["", " "])
)
_plain = st.sampled_from(["", "x", "{{", "}} ", "{{ not one! }}", "{ {a} }", "é {{ä}}", "a=b"])
_texts = st.one_of(
    _placeholders, _plain, st.lists(st.one_of(_placeholders, _plain), min_size=2, max_size=4).map("".join)
)
_scalars = st.one_of(_texts, st.none(), st.booleans(), st.integers(-5, 10**20), st.sampled_from([0.0, -1.5, 1e300]))
_references = st.just({"$ref": {"block_document_id": next(iter(_BLOCKS_BY_ID))}})
_json = st.recursive(
    st.one_of(_scalars, _references),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c", "K", "$ref"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_env = st.dictionaries(st.sampled_from(["K", "L", "M"]), _scalars, max_size=3)
_any_env = st.one_of(_env, _env, _env, _json)
_variables = st.fixed_dictionaries(
    {},
    optional={
        "env": _any_env,
        "a": _json,
        "b": _json,
        "text": _texts,
        "command": st.one_of(_texts, _json),
        "working_dir": _texts,
        "env.K": _scalars,
        "env.N.O": _scalars,
        "a.b": _json,
        "a.b[1]": _scalars,
    },
)
_declared = st.fixed_dictionaries(
    {},
    optional={
        name: st.fixed_dictionaries({"type": st.just("string")}, optional={"default": values})
        for name, values in {"env": _any_env, "a": _json, "b": _json, "command": _texts, "working_dir": _texts}.items()
    },
)
_own = st.sampled_from(["{{ env }}", "{{ command }}", "{{ working_dir }}"])
_configurations = st.fixed_dictionaries(
    {},
    optional={
        "env": st.one_of(st.just("{{ env }}"), _any_env),
        "command": st.one_of(st.just("{{ command }}"), _texts),
        "working_dir": st.one_of(st.just("{{ working_dir }}"), _texts),
        "other": _json,
    },
)
_questions = st.fixed_dictionaries(
    {
        "template": st.fixed_dictionaries(
            {"job_configuration": _configurations, "variables": st.fixed_dictionaries({"properties": _declared})}
        ),
        "deployment": _variables,
        "flow_run": _variables,
    }
)


class _References:
    async def block(self, type_slug: str, name: str) -> Mapping[str, Any] | None:
        return _BLOCKS.get(f"{type_slug}.{name}")

    async def block_by_id(self, block_id: str) -> Mapping[str, Any] | None:
        return _BLOCKS_BY_ID.get(block_id)

    async def variable(self, name: str) -> tuple[Any, ...]:
        return (_VARIABLES[name],) if name in _VARIABLES else ()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    with asked_of(prefect3_python(NEWEST), tmp_path_factory.mktemp("oracle")) as one:
        yield one


def _ours(question: Mapping[str, Any]) -> Job:
    asked = Asked(question["template"], question["deployment"], question["flow_run"])
    return asyncio.run(job_of(asked, _References(), _ENVIRON))


@tried(200, 5000)
@given(question=_questions)
def test_a_job_is_the_real_workers(oracle: Oracle, question: Mapping[str, Any]) -> None:
    known = {"blocks": _BLOCKS, "blocks_by_id": _BLOCKS_BY_ID, "variables": _VARIABLES, "environ": _ENVIRON}
    real = oracle.ask({**question, **known})
    try:
        ours = _ours(question)
    except LaunchError:
        event("refused")
        # dict.update() takes an empty list or text for a table, and so does the real one; here that is refused
        assert "error" in real or not isinstance(question["flow_run"].get("env"), dict)
        return
    if "error" in real:
        event(f"the real one fails with {real['error']}")
        return
    event("a job")
    assert ours.command == real["command"]
    assert ours.env == real["env"]
    assert _folder(ours.working_dir) == _folder(real["working_dir"])


def _folder(text: str | None) -> str | None:
    """The real one takes "" for its own folder; here it is none, as in a form that was left empty."""
    return None if text in (None, ".") else str(Path(text))
