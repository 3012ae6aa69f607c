"""Where-filters, as Hasura has them, into SQL conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.data import like, timestamps
from local_agent.server.data.descriptions import Column, Kind, Relation, Table
from local_agent.server.data.tables import BY_NAME
from local_agent.server.input import shapes
from local_agent.server.input.json_text import shortened, to_json
from local_agent.server.input.refusals import RefusedError, TooLargeError

ALL = "TRUE"
NONE = "FALSE"


class Statement:
    """An SQL statement that is being put together: its parameters, and names for the rows in it."""

    def __init__(self, budget: Budget = DEFAULT) -> None:
        self.parameters: dict[str, Any] = {}
        self._budget = budget
        self._rows = 0
        self._conditions = 0

    def spend(self, depth: int) -> None:
        """Count a condition, so many levels deep in its filter. Raise TooLargeError for too many, or too deep."""
        self._conditions += 1
        if self._conditions > self._budget.conditions:
            raise TooLargeError(f"The filters have more than {self._budget.conditions} conditions")
        if depth > self._budget.value_depth:
            raise TooLargeError(f"A filter is nested more than {self._budget.value_depth} deep")

    def bind(self, value: object) -> str:
        """Return the placeholder of a value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return ":" + name

    def new_row(self) -> str:
        """Return an alias that no other row of the statement has."""
        self._rows += 1
        return f"r{self._rows}"


def condition(statement: Statement, table: Table, row: str, where: object, depth: int = 1) -> str:
    """Given a filter on a row of a table, return the SQL condition. An absent or empty filter lets every row pass."""
    if where is None:
        return ALL
    if not isinstance(where, dict):
        raise RefusedError(f"A filter on {table.name} must be an object")
    return _all(_part(statement, table, row, name, value, depth) for name, value in where.items())


def _part(statement: Statement, table: Table, row: str, name: str, value: object, depth: int) -> str:
    statement.spend(depth)
    if name == "_not":
        return ALL if value is None else f"NOT ({condition(statement, table, row, value, depth + 1)})"
    if name in ("_and", "_or"):
        if value is None:
            return ALL
        parts = [condition(statement, table, row, each, depth + 1) for each in as_list(value)]
        return _all(parts) if name == "_and" else _any(parts)
    if name in table.by_name:
        return _compared(statement, table.by_name[name], row, value)
    if name in table.relation_by_name:
        return _related(statement, table.relation_by_name[name], row, value, depth)
    raise RefusedError(f"{table.name} has no field {name} to filter by")


def as_list(value: object) -> list[Any]:
    """Given what GraphQL takes for a list, return the list: a single value is a list of one."""
    return value if isinstance(value, list) else [value]


def _all(conditions: Any) -> str:  # noqa: ANN401 - any iterable of str
    parts = [part for part in conditions if part != ALL]
    return " AND ".join(f"({part})" for part in parts) if parts else ALL


def _any(conditions: list[str]) -> str:
    if ALL in conditions:
        return ALL
    return " OR ".join(f"({part})" for part in conditions) if conditions else NONE


def _related(statement: Statement, relation: Relation, row: str, where: object, depth: int) -> str:
    if where is None:
        return ALL
    other = statement.new_row()
    inner = condition(statement, BY_NAME[relation.table], other, where, depth + 1)
    return (
        f"EXISTS (SELECT 1 FROM {relation.table} {other}"  # noqa: S608 - names of our own
        f" WHERE {other}.{relation.there} = {row}.{relation.here} AND {inner})"
    )


def _compared(statement: Statement, column: Column, row: str, comparison: object) -> str:
    if comparison is None:
        return ALL
    if not isinstance(comparison, dict):
        raise RefusedError(f"A filter on {column.name} must be an object such as {{_eq: ...}}")
    left = column.sql(row)
    return _all(_operation(statement, column, left, name, value) for name, value in comparison.items())


def _operation(statement: Statement, column: Column, left: str, name: str, value: object) -> str:
    # Hasura's rule, and the command line of Prefect lives by it: an operator given null is no condition.
    if value is None:
        return ALL
    if name == "_is_null":
        return f"{left} IS NULL" if value else f"{left} IS NOT NULL"
    if name in ("_in", "_nin"):
        return _among(statement, column, left, as_list(value), wanted=name == "_in")
    if column.kind is Kind.JSON:
        return _JSON_OPERATORS[name](left, statement.bind(_given(value)))
    if name.endswith("like"):
        like.check(str(value))
    return _OPERATORS[name](left, statement.bind(stored(column, value)))


def _given(value: object) -> str:
    text = to_json(value)
    if len(text) > _MAX_JSON:
        raise TooLargeError(f"A filter compares with JSON of at most {_MAX_JSON} characters, not {len(text)}")
    return text


_MAX_JSON = 100_000


# So many values become one parameter: SQLite takes a limited number of them.
_MANY_VALUES = 100


def _among(statement: Statement, column: Column, left: str, values: list[Any], *, wanted: bool) -> str:
    if column.kind is Kind.JSON:
        return _among_json(statement, left, values, wanted=wanted)
    operator = "IN" if wanted else "NOT IN"
    converted = [stored(column, value) for value in values if value is not None]
    if len(converted) > _MANY_VALUES:
        values_of = f"json_each({statement.bind(to_json(converted))})"
        return f"{left} {operator} (SELECT value FROM {values_of})"  # noqa: S608 - names of our own
    return f"{left} {operator} ({', '.join(map(statement.bind, converted))})"


def _among_json(statement: Statement, left: str, values: list[Any], *, wanted: bool) -> str:
    equal = []
    for value in values:
        statement.spend(0)
        equal.append(f"json_equals({left}, {statement.bind(_given(value))})")
    found = " OR ".join(equal) if equal else NONE
    return f"({found})" if wanted else f"NOT ({found})"


_OPERATORS: dict[str, Callable[[str, str], str]] = {
    "_eq": lambda left, right: f"{left} = {right}",
    "_neq": lambda left, right: f"{left} <> {right}",
    "_lt": lambda left, right: f"{left} < {right}",
    "_lte": lambda left, right: f"{left} <= {right}",
    "_gt": lambda left, right: f"{left} > {right}",
    "_gte": lambda left, right: f"{left} >= {right}",
    "_like": lambda left, right: f"like_exactly({left}, {right})",
    "_nlike": lambda left, right: f"NOT like_exactly({left}, {right})",
    "_ilike": lambda left, right: f"like_any_case({left}, {right})",
    "_nilike": lambda left, right: f"NOT like_any_case({left}, {right})",
}

_JSON_OPERATORS: dict[str, Callable[[str, str], str]] = {
    "_eq": lambda left, right: f"json_equals({left}, {right})",
    "_neq": lambda left, right: f"NOT json_equals({left}, {right})",
    "_contains": lambda left, right: f"json_contains({left}, {right})",
    "_contained_in": lambda left, right: f"json_contained({left}, {right})",
    "_has_key": lambda left, right: f"json_has_key({left}, {right})",
    "_has_keys_all": lambda left, right: _has_keys(left, right, "NOT EXISTS", "NOT "),
    "_has_keys_any": lambda left, right: _has_keys(left, right, "EXISTS", ""),
}


def _has_keys(left: str, right: str, exists: str, has: str) -> str:
    keys = f"SELECT 1 FROM json_each({right}) k WHERE {has}json_has_key({left}, json_quote(k.value))"  # noqa: S608 - names of our own
    return f"({left} IS NOT NULL AND {exists} ({keys}))"


def stored(column: Column, value: object) -> object:
    """Given a value from a request, return it as SQLite stores it in this column. Raise RefusedError."""
    try:
        return _STORED[column.kind](value)
    except (ValueError, TypeError, AttributeError) as error:
        raise RefusedError(f"{shortened(repr(value))} does not fit {column.name}: {shortened(str(error))}") from None


_STORED: dict[Kind, Callable[[Any], object]] = {
    Kind.TEXT: str,
    Kind.UUID: shapes.uuid_text,
    Kind.INT: int,
    Kind.BOOL: int,
    Kind.TIME: timestamps.normalise,
    Kind.JSON: to_json,
}
