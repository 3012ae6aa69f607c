"""GraphQL documents and bodies made from the schema by chance: most of them right, many nearly, some not at all.

`chance` is a random.Random, also one of hypothesis, which then finds the smallest document that does the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    is_object_type,
)

_TEXTS = (
    "",
    "a",
    "flow",
    "Scheduled",
    "%_%_%",
    "\\",
    '"',
    "\x00",
    "\ud800",
    "\u2028",
    "' OR 1=1 --",
    "{}",
    "00000000-0000-4000-8000-000000000001",
    "2026-11-22T07:00:00+00:00",
    "9999-12-31T23:59:59.999999-23:59",
    "x" * 5_000,
    "🎉",
)
_NUMBERS = (0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 1.5, 1e308, -0.0, 12)


@dataclass
class Made:
    """What was made: a document, and variables for it."""

    query: str
    variables: Any
    operation_name: str | None = None

    @property
    def body(self) -> bytes:
        """The body of its request, with variables as text or not."""
        variables = json.dumps(self.variables) if self.operation_name is None else self.variables
        return json.dumps({"query": self.query, "variables": variables, "operationName": self.operation_name}).encode()


@dataclass
class Maker:
    """Makes documents for a schema. `ids` are ids of things that are there."""

    schema: GraphQLSchema
    chance: Random
    ids: list[str]
    variables: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    fragments: list[str] = field(default_factory=list)

    def document(self) -> Made:
        """Return a document and its variables."""
        kind = "mutation" if self.chance.random() < 0.6 else "query"
        root = self.schema.mutation_type if kind == "mutation" else self.schema.query_type
        assert root is not None
        fields = " ".join(self._field(root, 0) for _ in range(self.chance.randint(1, 3)))
        declared = " ".join(f"${name}: {type_}" for name, type_ in self.declared.items())
        head = f"{kind} made({declared})" if declared else kind
        query = f"{head} {{ {fields} }} {' '.join(self.fragments)}"
        name = "made" if declared and self.chance.random() < 0.3 else None
        return Made(self._spoilt(query), self.variables, name)

    def _spoilt(self, query: str) -> str:
        if self.chance.random() > 0.1:
            return query
        at, to = sorted(self.chance.randint(0, len(query)) for _ in range(2))
        return (
            query[:at] + self.chance.choice(["", "{", "}", '"', "$", "...", "\\", query[at:to] * 2, "#"]) + query[to:]
        )

    def _field(self, parent: GraphQLObjectType, depth: int) -> str:
        name = self.chance.choice(sorted(parent.fields))
        if self.chance.random() < 0.03:
            return self.chance.choice(["__typename", "nosuch", "__schema { types { name } }"])
        definition = parent.fields[name]
        alias = f"a{self.chance.randint(0, 9)}: " if self.chance.random() < 0.3 else ""
        directive = (
            self.chance.choice([" @include(if: true)", " @skip(if: true)"]) if self.chance.random() < 0.05 else ""
        )
        return f"{alias}{name}{self._arguments(definition)}{directive}{self._selection(definition.type, depth)}"

    def _arguments(self, definition: GraphQLField) -> str:
        given = []
        for name, argument in definition.args.items():
            needed = isinstance(argument.type, GraphQLNonNull)
            if self.chance.random() < (0.97 if needed else 0.4):
                given.append(f"{name}: {self._argument(argument.type)}")
        return f"({', '.join(given)})" if given else ""

    def _argument(self, kind: GraphQLInputType) -> str:
        value = self._value(kind, 0)
        if self.chance.random() < 0.5:
            name = f"v{len(self.declared)}"
            self.declared[name] = str(kind)
            self.variables[name] = value
            return f"${name}"
        return _literal(value, kind)

    def _selection(self, kind: GraphQLOutputType, depth: int) -> str:
        inner = get_named_type(kind)
        if not is_object_type(inner):
            return ""
        scalars = [name for name, each in inner.fields.items() if not is_object_type(get_named_type(each.type))]
        if depth > 3 and scalars:
            return f" {{ {self.chance.choice(scalars)} }}"
        fields = " ".join(self._field(inner, depth + 1) for _ in range(self.chance.randint(1, 3)))
        if self.chance.random() < 0.1:
            name = f"f{len(self.fragments)}"
            self.fragments.append(f"fragment {name} on {inner.name} {{ {fields} }}")
            return f" {{ ...{name} }}"
        return f" {{ {fields} }}"

    def _value(self, kind: GraphQLInputType, depth: int) -> Any:  # noqa: ANN401 - any JSON value
        if self.chance.random() < 0.04:
            return self._anything(depth)
        if isinstance(kind, GraphQLNonNull):
            return self._value(kind.of_type, depth)
        if isinstance(kind, GraphQLList):
            return [self._value(kind.of_type, depth + 1) for _ in range(self.chance.randint(0, 3))]
        if isinstance(kind, GraphQLEnumType):
            return self.chance.choice(sorted(kind.values))
        if isinstance(kind, GraphQLInputObjectType):
            return self._object(kind, depth)
        return self._scalar(str(kind), depth)

    def _object(self, kind: GraphQLInputObjectType, depth: int) -> dict[str, Any]:
        share = 0.6 if len(kind.fields) < 12 else 0.08
        if depth > 4:
            share = 0.0
        return {
            name: self._value(each.type, depth + 1)
            for name, each in kind.fields.items()
            if isinstance(each.type, GraphQLNonNull) or self.chance.random() < share
        }

    def _scalar(self, name: str, depth: int) -> Any:  # noqa: ANN401 - as above
        if name in ("UUID", "uuid"):
            return self.chance.choice(self.ids)
        if name in ("DateTime", "timestamptz"):
            return self.chance.choice([text for text in _TEXTS if text[4:5] == "-" and len(text) > 30] or [""])
        if name == "Boolean":
            return self.chance.random() < 0.5
        if name == "Int":
            return self.chance.choice([0, 1, -1, 5, 2**31 - 1, -(2**31), 100])
        if name in ("JSON", "jsonb"):
            return self._anything(depth)
        return self.chance.choice(_TEXTS)

    def _anything(self, depth: int) -> Any:  # noqa: ANN401 - as above
        pick = self.chance.randint(0, 9 if depth < 8 else 5)
        if pick < 3:
            return self.chance.choice(_TEXTS)
        if pick < 5:
            return self.chance.choice(_NUMBERS)
        if pick == 5:
            return self.chance.choice([None, True, False])
        if pick == 6:
            return [self._anything(depth + 1) for _ in range(self.chance.randint(0, 4))]
        if pick == 7:
            return self._like_prefect(depth)
        return {self.chance.choice(_KEYS): self._anything(depth + 1) for _ in range(self.chance.randint(0, 5))}

    def _like_prefect(self, depth: int) -> dict[str, Any]:
        """Return what a flow, a task or a state looks like, with something strange in it."""
        whole: dict[str, Any] = {
            "name": "f",
            "type": self.chance.choice(["Scheduled", "Success", "Running", "Paused", "Mapped", "Submitted"]),
            "slug": "a",
            "fn": "x",
            "tasks": [{"slug": "a"}],
            "labels": ["a"],
            "parameters": [{"name": "p", "required": False}],
        }
        whole[self.chance.choice(_KEYS)] = self._anything(depth + 1)
        return whole


_KEYS = (
    "name",
    "tasks",
    "edges",
    "parameters",
    "labels",
    "run_config",
    "environment",
    "storage",
    "schedule",
    "clocks",
    "parameter_defaults",
    "slug",
    "type",
    "message",
    "context",
    "cached_inputs",
    "_result",
    "start_time",
    "state",
    "retry_delay",
    "max_retries",
    "trigger",
    "tags",
    "upstream_task",
    "downstream_task",
    "__version__",
    "x",
    "",
    "\x00",
    "' ",
)


def _literal(value: Any, kind: GraphQLInputType | None) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as a document has it; names of enums stand without quotation marks."""
    inner = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    if isinstance(value, dict):
        known = inner.fields if isinstance(inner, GraphQLInputObjectType) else {}
        pairs = (
            f"{name}: {_literal(each, known[name].type if name in known else None)}"
            for name, each in value.items()
            if name.isidentifier() and name.isascii()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        member = inner.of_type if isinstance(inner, GraphQLList) else None
        return "[" + ", ".join(_literal(each, member) for each in value) + "]"
    if isinstance(value, str) and isinstance(inner, GraphQLEnumType):
        return value
    return json.dumps(value)


def spoilt(body: bytes, chance: Random) -> bytes:
    """Return a body with some bytes changed, left out or said twice."""
    data = bytearray(body)
    for _ in range(chance.randint(1, 5)):
        at = chance.randint(0, max(0, len(data) - 1))
        how = chance.randint(0, 3)
        if how == 0:
            data[at : at + 1] = bytes([chance.randint(0, 255)])
        elif how == 1:
            del data[at : at + chance.randint(1, 20)]
        elif how == 2:
            data[at:at] = data[at : at + chance.randint(1, 200)]
        else:
            data[at:at] = chance.choice([b"NaN", b"1e999", b"[" * 300, b'"\\ud800"', b"\xff", b"null", b"{}", b"-"])
    return bytes(data)
