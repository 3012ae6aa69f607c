"""Requests that would keep an API busy: those that stopped an earlier version, and relatives of them made by chance."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_TREE = "fragment f{0} on flow {{ {1} }}"
_TO_MANY = {"flow": "flow_runs", "flow_run": "flow", "project": "flows", "task_run": "flow_run"}


@dataclass(frozen=True)
class Costly:
    """A request, and what it tries."""

    name: str
    query: str
    variables: Any = None

    @property
    def body(self) -> bytes:
        """The body of its request."""
        return json.dumps({"query": self.query, "variables": self.variables}).encode()


def known(flow_id: str) -> Iterator[Costly]:
    """Yield the five that stopped an earlier version."""
    pattern = "%_" * 24
    yield Costly("like", f'{{ flow_run(where: {{ name: {{ _like: "{pattern}x" }} }}) {{ id }} }}')
    yield Costly("walk", walk(3))
    yield Costly("fragments", spreads(40, 2))
    yield Costly("same field", "{" + " hello" * 6000 + "}")
    yield Costly("mutations", mutations(20_000, flow_id))


def walk(times: int) -> str:
    """Return a query that goes from flows to their runs and back so many times."""
    return "{ flow {" + "flow_runs { flow {" * times + "id" + "}}" * times + "} }"


def spreads(count: int, each: int) -> str:
    """Return fragments each of which spreads the next so many times."""
    inner = [" ".join([f"...f{number + 1}"] * each) for number in range(count - 1)]
    fragments = [f"fragment f{number} on flow {{ {text} }}" for number, text in enumerate([*inner, "id"])]
    return "{ flow { ...f0 } } " + " ".join(fragments)


def mutations(count: int, flow_id: str) -> str:
    """Return so many mutations in one request."""
    each = (f'a{number}: create_flow_run(input: {{ flow_id: "{flow_id}" }}) {{ id }}' for number in range(count))
    return "mutation { " + " ".join(each) + " }"


def relatives(flow_id: str, chance: random.Random, count: int) -> list[Costly]:
    """Return so many others of their kinds."""
    kinds: list[Callable[[random.Random], Costly]] = [
        _pattern,
        _walk,
        _spreads,
        _tree,
        _same,
        _aliases,
        lambda chance: Costly("mutations", mutations(chance.randint(2_000, 30_000), flow_id)),
        _conditions,
        _related,
        _deep_filter,
        _ids,
        _variables,
        _unknown,
        _introspection,
        _quotes,
        _aggregates,
        _order,
        _merged,
        _nested_json,
        _many_objects,
    ]
    return [kinds[number % len(kinds)](chance) for number in range(count)]


def _pattern(chance: random.Random) -> Costly:
    piece = chance.choice(["%_", "%a", "_%", "%a_", "a%b%", "%%_"])
    text = piece * chance.randint(15, 200) + chance.choice(["", "z"])
    operator = chance.choice(["_like", "_ilike", "_nlike", "_nilike"])
    column = chance.choice(["name", "state_message"])
    return Costly("like", f'{{ flow_run(where: {{ {column}: {{ {operator}: "{text}" }} }}) {{ id }} }}')


def _walk(chance: random.Random) -> Costly:
    times = chance.randint(3, 30)
    leaf = chance.choice(["id", "serialized_state", "flow_runs_aggregate { aggregate { count } }", "id name state"])
    query = "{ flow {" + "flow_runs { flow {" * times + leaf.replace("serialized_state", "serialized_flow")
    return Costly("walk", query + "}}" * times + "} }")


def _spreads(chance: random.Random) -> Costly:
    return Costly("fragments", spreads(chance.randint(31, 150), chance.randint(2, 5)))


def _tree(chance: random.Random) -> Costly:
    count = chance.randint(8, 60)
    inner = [
        f"a: flow_group {{ flows {{ ...f{number + 1} }} }} b: flow_group {{ flows {{ ...f{number + 1} }} }}"
        for number in range(count - 1)
    ]
    fragments = [_TREE.format(number, text) for number, text in enumerate([*inner, "id"])]
    return Costly("tree", "{ flow { ...f0 } } " + " ".join(fragments))


def _same(chance: random.Random) -> Costly:
    field = chance.choice(["hello", "flow_run { id }", "api { version }", "__typename", "tenant { id name }"])
    return Costly("same field", "{" + f" {field}" * chance.randint(500, 8_000) + "}")


def _aliases(chance: random.Random) -> Costly:
    fields = " ".join(f"a{number}: flow_run {{ id parameters }}" for number in range(chance.randint(501, 4_000)))
    return Costly("aliases", "{" + fields + "}")


def _conditions(chance: random.Random) -> Costly:
    many = [{"name": {"_eq": f"x{number}"}} for number in range(chance.randint(1_000, 20_000))]
    query = "query($w: flow_run_bool_exp) { flow_run(where: $w) { id } }"
    return Costly("conditions", query, {"w": {chance.choice(["_or", "_and"]): many}})


def _related(chance: random.Random) -> Costly:
    times = chance.randint(3, 40)
    inner = '{ name: { _eq: "nobody" } }'
    where = "{ flow: { flow_runs: " * times + inner + "} }" * times
    return Costly("related", f"{{ flow_run(where: {where}) {{ id }} }}")


def _deep_filter(chance: random.Random) -> Costly:
    times = chance.randint(40, 900)
    return Costly("deep filter", "{ flow_run(where: " + "{ _not: " * times + "{}" + "}" * times + ") { id } }")


def _ids(chance: random.Random) -> Costly:
    query = "query($i: [uuid!]) { flow_run(where: { id: { _in: $i } }) { id } }"
    return Costly("ids", query, {"i": ["no id"] * chance.randint(1_000, 100_000)})


def _variables(chance: random.Random) -> Costly:
    declared = " ".join(f"$v{number}: Int" for number in range(chance.randint(700, 5_000)))
    return Costly("variables", f"query({declared}) {{ hello }}")


def _unknown(chance: random.Random) -> Costly:
    names = " ".join(f"{chance.choice(['flow', 'tsak', 'sate'])}{number}" for number in range(1_900))
    return Costly("unknown", f"{{ flow_run {{ {names} }} }}")


def _introspection(chance: random.Random) -> Costly:
    times = chance.randint(3, 8)
    return Costly("introspection", "{ __schema { types {" + "fields { type {" * times + "name" + "}}" * times + "}}}")


def _quotes(chance: random.Random) -> Costly:
    text = chance.choice(['"\\' * 20_000, '["a", ' * 9_000, "\\\\" * 25_000, '"' * 30_001])
    return Costly("quotes", f'{{ flow_run(where: {{ name: {{ _eq: "{text} }} }}) {{ id }} }}')


def _aggregates(chance: random.Random) -> Costly:
    times = chance.randint(2, 6)
    query = "flow_runs_aggregate { nodes { flow {" * times + "id" + "} } }" * times
    return Costly("aggregates", f"{{ flow_aggregate {{ nodes {{ {query} }} }} }}")


def _order(chance: random.Random) -> Costly:
    terms = ", ".join("{ flow: { name: asc } }" for _ in range(chance.randint(1_500, 3_000)))
    return Costly("order", f"{{ flow_run(order_by: [{terms}]) {{ id }} }}")


def _merged(chance: random.Random) -> Costly:
    inner = " ".join(f"flow {{ a{number}: id }}" for number in range(chance.randint(200, 1_900)))
    return Costly("merged", f"{{ flow_run {{ {inner} }} }}")


def _nested_json(chance: random.Random) -> Costly:
    depth = chance.randint(300, 900)
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    return Costly("nested", "query($w: jsonb) { flow_run(where: { parameters: { _eq: $w } }) { id } }", {"w": deep})


def _many_objects(chance: random.Random) -> Costly:
    query = "mutation($i: write_run_logs_input!) { write_run_logs(input: $i) { success } }"
    return Costly("objects", query, {"i": {"logs": [{}] * chance.randint(20_000, 90_000)}})
