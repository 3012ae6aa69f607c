"""Where-filters, as Hasura has them, into SQL conditions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from local_agent.server import timestamps
from local_agent.server.database import to_json
from local_agent.server.refusals import RefusedError
from local_agent.server.tables import BY_NAME, Column, Kind, Relation, Table

ALL = "TRUE"
NONE = "FALSE"


class Statement:
    """An SQL statement that is being put together: its parameters, and names for the rows in it."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self._rows = 0

    def bind(self, value: object) -> str:
        """Return the placeholder of a value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return ":" + name

    def new_row(self) -> str:
        """Return an alias that no other row of the statement has."""
        self._rows += 1
        return f"r{self._rows}"


def condition(statement: Statement, table: Table, row: str, where: object) -> str:
    """Given a filter on a row of a table, return the SQL condition. An absent or empty filter lets every row pass."""
    if where is None:
        return ALL
    if not isinstance(where, dict):
        raise RefusedError(f"A filter on {table.name} must be an object")
    return _all(_part(statement, table, row, name, value) for name, value in where.items())


def _part(statement: Statement, table: Table, row: str, name: str, value: object) -> str:
    if name == "_not":
        return ALL if value is None else f"NOT ({condition(statement, table, row, value)})"
    if name in ("_and", "_or"):
        if value is None:
            return ALL
        parts = [condition(statement, table, row, each) for each in as_list(value)]
        return _all(parts) if name == "_and" else _any(parts)
    if name in table.by_name:
        return _compared(statement, table.by_name[name], row, value)
    if name in table.relation_by_name:
        return _related(statement, table.relation_by_name[name], row, value)
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


def _related(statement: Statement, relation: Relation, row: str, where: object) -> str:
    if where is None:
        return ALL
    other = statement.new_row()
    inner = condition(statement, BY_NAME[relation.table], other, where)
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
    operator = _OPERATORS[name]
    return operator(left, statement.bind(stored(column, value)))


# So many values become one parameter: SQLite takes a limited number of them.
_MANY_VALUES = 100


def _among(statement: Statement, column: Column, left: str, values: list[Any], *, wanted: bool) -> str:
    operator = "IN" if wanted else "NOT IN"
    converted = [stored(column, value) for value in values if value is not None]
    if len(converted) > _MANY_VALUES:
        values_of = f"json_each({statement.bind(to_json(converted))})"
        return f"{left} {operator} (SELECT value FROM {values_of})"  # noqa: S608 - names of our own
    return f"{left} {operator} ({', '.join(map(statement.bind, converted))})"


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
    # Every member of the list given is a member of the list stored.
    "_contains": lambda left, right: (
        f"NOT EXISTS (SELECT 1 FROM json_each({right}) WHERE value NOT IN (SELECT value FROM json_each({left})))"  # noqa: S608 - names of our own
    ),
}


def stored(column: Column, value: object) -> object:
    """Given a value from a request, return it as SQLite stores it in this column. Raise RefusedError."""
    try:
        return _STORED[column.kind](value)
    except (ValueError, TypeError, AttributeError) as error:
        raise RefusedError(f"{value!r} does not fit {column.name}: {error}") from None


_STORED: dict[Kind, Callable[[Any], object]] = {
    Kind.TEXT: str,
    Kind.UUID: lambda value: str(uuid.UUID(value)),
    Kind.INT: int,
    Kind.BOOL: int,
    Kind.TIME: timestamps.normalise,
    Kind.JSON: to_json,
}
