"""How a flow run is to be run: the work pool's template, filled with what its deployment and the run itself ask for.

The same job comes out as of Prefect's own process worker (3.9.1). Where that one fails with a traceback, for a null
where a table is due, this one takes it for an empty table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from local_agent.backends.prefect3 import templates
from local_agent.errors import LaunchError
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.backends.prefect3.templates import Json

# the names by which a job asks for limits -> the keys of the table `limits`
LIMITS: Mapping[str, str] = {
    "memory": "memory_max",
    "memory_high": "memory_high",
    "cpu": "cpu_quota",
    "cpu_weight": "cpu_weight",
    "io_weight": "io_weight",
    "tasks": "tasks_max",
    "runtime": "runtime_max",
    "nice": "nice",
}
# of a pool that was made without one: what Prefect's own worker would put there
_USUAL_TEMPLATE: Mapping[str, Any] = {
    "job_configuration": {name: f"{{{{ {name} }}}}" for name in ("command", "env", "working_dir")},
    "variables": {"properties": {}},
}
_MAX_REFERENCES = 100  # each is a request; a job names a few
_HINT = "check the job variables of the run and of its deployment, and the work pool's base job template"


class References(Protocol):
    """What placeholders name at the API. Each may raise ApiUnreachableError and CredentialError."""

    async def block(self, type_slug: str, name: str) -> Mapping[str, Any] | None:
        """Return the data of a block document, secrets included; None where there is none."""

    async def block_by_id(self, block_id: str) -> Mapping[str, Any] | None:
        """Return the data of a block document, secrets included; None where there is none."""

    async def variable(self, name: str) -> tuple[Any, ...]:
        """Return the value of a variable; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was asked for. A null in `env` takes a variable away; `asked` is limit's key -> text."""

    command: str | None = None
    env: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    working_dir: str | None = None
    asked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """The job variables of a deployment and of a flow run of it, as the API has them, and their pool's template."""

    template: Mapping[str, Any]
    deployment: Mapping[str, Any] = field(repr=False)
    flow_run: Mapping[str, Any] = field(repr=False)


async def job_of(asked: Asked, references: References, environ: Mapping[str, str]) -> Job:
    """Return the job that is asked for; `environ` is what `{{ $NAME }}` names.

    Raise LaunchError where it cannot be had: what was asked for is wrong, or names a block that does not exist.
    """
    try:
        filled = templates.filled(*_template_and_values(asked), environ)
        configuration = _table(await _with_references(filled, references), "job_configuration")
    except (_WrongError, templates.TemplateError) as error:
        raise LaunchError(f"the flow run's job configuration cannot be had: {error}", hint=_HINT) from error
    return _parsed(configuration)


class _WrongError(ValueError):
    """A part of what was asked for is not of its type."""


def _template_and_values(asked: Asked) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the job configuration, a template, and the variables that its placeholders name."""
    template = asked.template or _USUAL_TEMPLATE
    configuration = dict(_table(template.get("job_configuration"), "job_configuration of the base job template"))
    declared = _table(_table(template.get("variables"), "variables of the base job template").get("properties"), "...")
    usual = _defaults(declared)
    if usual.get("env"):
        configuration["env"] = _own_env(configuration) | _table(usual["env"], "default of env")
    values = usual | _nested(_job_variables(asked))
    if isinstance(configuration.get("env"), dict) and values.get("env"):
        configuration["env"] = configuration["env"] | _table(values["env"], "env")
    # a pool of another kind's form does not know our limits, and its job variables may name them all the same
    for name in LIMITS.keys() - configuration.keys() - declared.keys():
        configuration[name] = f"{{{{ {name} }}}}"
    return configuration, values


def _own_env(configuration: Mapping[str, Any]) -> dict[str, Any]:
    env = configuration.get("env")
    return env if isinstance(env, dict) else {}


def _defaults(declared: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {name: one.get("default") for name, one in declared.items() if isinstance(one, dict)}
    return {name: value for name, value in defaults.items() if value is not None}


def _job_variables(asked: Asked) -> dict[str, Any]:
    """The run's variables win over its deployment's; their environments are merged."""
    merged = {**asked.deployment, **asked.flow_run}
    if isinstance(asked.deployment.get("env"), dict):
        merged["env"] = asked.deployment["env"] | _table(asked.flow_run.get("env"), "env of the flow run")
    return merged


def _nested(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables with those such as "env.NAME" put in the table that they name; one given as a table wins."""
    nested: dict[str, Any] = {}
    for key, value in variables.items():
        if "." in key:
            _put(nested, key, value)
    for key, value in variables.items():
        if "." not in key:
            nested[key] = _merged(nested.get(key), value)
    return nested


def _put(nested: dict[str, Any], key: str, value: Json) -> None:
    *tables, last = key.replace("[", ".").replace("]", "").split(".")
    for name in tables:
        inner = nested.setdefault(name, {})
        if not isinstance(inner, dict):
            raise _WrongError(f"the variable {short(key, 60)!r} names a place in what is no table")
        nested[name] = nested = {**inner}  # what another one gave is not changed
    nested[last] = value


def _merged(below: Json, above: Json) -> Json:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


async def _with_references(template: Json, references: References) -> Json:
    """Return a template with blocks and then variables put in: a block may hold a variable's placeholder."""
    names, ids = templates.block_names(template), templates.block_ids(template)
    _check_count(len(names) + len(ids), "blocks")
    by_name = {name: _found(await references.block(*name), "{} {}".format(*name)) for name in sorted(names)}
    by_id = {one: _found(await references.block_by_id(one), one) for one in sorted(ids)}
    template = templates.with_blocks(template, by_name, by_id)
    variables = templates.variable_names(template)
    _check_count(len(variables), "variables")
    found = {name: value for name in sorted(variables) for value in await references.variable(name)}
    return templates.with_variables(template, found)


def _check_count(count: int, what: str) -> None:
    if count > _MAX_REFERENCES:
        raise _WrongError(f"it names {count} {what} at the API, more than {_MAX_REFERENCES}")


def _found(data: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    if data is None:
        raise _WrongError(f"there is no block {short(name, 100)}")
    return data


def _parsed(configuration: Mapping[str, Any]) -> Job:
    return Job(
        command=_text(configuration, "command") or None,
        env=_env(configuration.get("env")),
        working_dir=_text(configuration, "working_dir") or None,
        asked={LIMITS[name]: text for name in LIMITS if (text := _limit(configuration, name))},
    )


def _env(value: Json) -> dict[str, str | None]:
    if value is not None and not isinstance(value, dict):
        raise _refused("env", value, "a table")
    return {name: None if text is None else str(text) for name, text in (value or {}).items()}


def _text(configuration: Mapping[str, Any], name: str) -> str:
    value = configuration.get(name)
    if value is not None and not isinstance(value, str):
        raise _refused(name, value, "a text")
    return value or ""


def _limit(configuration: Mapping[str, Any], name: str) -> str:
    """Return what is asked for as a text; forms and command lines give numbers as texts, others as numbers."""
    value = configuration.get(name)
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refused(name, value, "a number or a text")
    return str(value)


def _refused(name: str, value: object, due: str) -> LaunchError:
    return LaunchError(f"the job variable {name} is {short(repr(value), 60)} where {due} is due", hint=_HINT)


def _table(value: Json, name: str) -> dict[str, Any]:
    """Return a table; null and what is missing are an empty one."""
    if value is not None and not isinstance(value, dict):
        raise _WrongError(f"{name} is {short(repr(value), 60)} where a table is due")
    return value or {}
