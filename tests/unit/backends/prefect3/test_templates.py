"""Placeholders: what each becomes, and that nothing makes the code raise anything but its own error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_agent.backends.prefect3 import templates
from local_agent.backends.prefect3.templates import Json, TemplateError, Unset
from support.generated import tried

VALUES = {"memory": "1G", "limits": {"cpus": [1, 2]}, "nothing": None, "on": True}


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("{{ memory }}", "1G"),
        ("{{limits.cpus[1]}}", 2),
        ("{{ limits }}", {"cpus": [1, 2]}),
        ("{{ nothing }}", None),
        ("{{ no }}", Unset.UNSET),
        ("{{ limits.cpus[9] }}", Unset.UNSET),
        ("{{ memory.0 }}", "1"),
        ("{{ on.x }}", Unset.UNSET),
        ("of {{ memory }}, {{ on }}{{ no }}", "of 1G, True"),
        ("{{ $HOME }}", "/home/me"),
        ("{{ $NO }}/x", "/x"),
        ("{{ two words }}", "{{ two words }}"),
        (["{{ no }}", 1, {"a": "{{ no }}", "b": "{{ memory }}"}], [1, {"b": "1G"}]),
        ("{{ prefect.variables.x }} {{ memory }}", "{{ prefect.variables.x }} 1G"),
        ("{{ prefect.blocks.a.b }}", "{{ prefect.blocks.a.b }}"),
    ],
)
def test_a_plain_placeholder_becomes_its_value(template: Json, becomes: Json) -> None:
    assert templates.filled(template, VALUES, {"HOME": "/home/me"}) == becomes


def test_a_value_that_looks_like_a_placeholder_stays_text() -> None:
    values = {"a": "{{ b }}", "b": "secret"}
    assert templates.filled("x{{ a }}{{ b }}", values, {}) == "x{{ b }}secret"


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("{{ prefect.blocks.secret.token }}", "s3cret"),
        ("Bearer {{ prefect.blocks.secret.token }}!", "Bearer s3cret!"),
        ("{{ prefect.blocks.secret.token.value }}", "s3cret"),
        ("{{ prefect.blocks.aws.main }}", {"key": "k", "value": {"x": 1}}),
        ("{{ prefect.blocks.aws.main.value.x }}", 1),
        ({"a": {"$ref": {"block_document_id": "id-1"}}}, {"a": {"user": "me"}}),
        ({"$ref": "no reference"}, {"$ref": "no reference"}),
    ],
)
def test_a_block_is_put_in(template: Json, becomes: Json) -> None:
    by_name: dict[tuple[str, str], dict[str, Json]] = {
        ("secret", "token"): {"value": "s3cret"},
        ("aws", "main"): {"key": "k", "value": {"x": 1}},
    }
    assert templates.block_names(template) <= by_name.keys()
    assert templates.with_blocks(template, by_name, {"id-1": {"user": "me"}}) == becomes


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ prefect.blocks.secret }}", "prefect.blocks.secret"),
        ("{{ prefect.blocks.secret.token.user }}", "'user'"),
        ("x {{ prefect.blocks.aws.main }}", "prefect.blocks.aws.main"),
    ],
)
def test_a_block_that_cannot_be_put_in_is_named(template: str, says: str) -> None:
    by_name = {("secret", "token"): {"value": "s3cret"}, ("aws", "main"): {"key": "k"}}
    with pytest.raises(TemplateError, match=says):
        templates.with_blocks(template, by_name, {})


def test_variables_are_put_in_and_a_missing_one_is_empty() -> None:
    template = ["{{ prefect.variables.n }}", "r={{ prefect.variables.n }},{{ prefect.variables.no }}", "{{ other }}"]
    assert templates.variable_names(template) == {"n", "no"}
    assert templates.with_variables(template, {"n": 3}) == [3, "r=3,", "{{ other }}"]


def test_a_text_that_grows_beyond_any_environment_is_refused() -> None:
    with pytest.raises(TemplateError, match="longer than"):
        templates.filled("{{ a }}-" * 1000, {"a": "x" * 100_000}, {})


_texts = st.text(st.sampled_from("{}$ ab0.-[]é\0prefect.blocks.variables."), max_size=40)
_keys = st.one_of(st.sampled_from(["$ref", "block_document_id", "a", "value"]), _texts)
_json = st.recursive(
    st.one_of(_texts, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(_keys, inner, max_size=3),
    ),
    max_leaves=8,
)


@tried(200, 20_000)
@given(
    template=_json, values=st.dictionaries(_texts, _json, max_size=3), data=st.dictionaries(_texts, _json, max_size=2)
)
def test_any_json_is_filled_or_refused(template: Json, values: dict[str, Json], data: dict[str, Json]) -> None:
    filled = templates.filled(template, values, {})
    try:
        names, ids = templates.block_names(filled), templates.block_ids(filled)
        filled = templates.with_blocks(filled, dict.fromkeys(names, data), dict.fromkeys(ids, data))
    except TemplateError:
        return
    filled = templates.with_variables(filled, dict.fromkeys(templates.variable_names(filled), "v"))
    assert filled is Unset.UNSET or not templates.variable_names(filled)
