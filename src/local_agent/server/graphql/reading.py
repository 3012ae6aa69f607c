"""Queries: what is selected, with everything nested in it, as one SQL statement that returns JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphql import FieldNode

from local_agent.server.data.descriptions import Column, Kind, Relation, Table
from local_agent.server.data.filters import ALL, Statement, as_list, condition
from local_agent.server.data.reads import Reads
from local_agent.server.data.tables import BY_NAME
from local_agent.server.graphql.arguments import Reader
from local_agent.server.input.refusals import RefusedError, TooLargeError

# json_object takes 127 arguments at most, two for each field.
_MAX_FIELDS = 63

# Each may be a look into another table, for every row.
_MAX_TERMS = 20

_DIRECTIONS = {
    # Null counts as the greatest value, as in PostgreSQL; to SQLite it is the least.
    "asc": "ASC NULLS LAST",
    "desc": "DESC NULLS FIRST",
    "asc_nulls_first": "ASC NULLS FIRST",
    "asc_nulls_last": "ASC NULLS LAST",
    "desc_nulls_first": "DESC NULLS FIRST",
    "desc_nulls_last": "DESC NULLS LAST",
}


@dataclass(frozen=True)
class Query:
    """Reads tables for one request."""

    reads: Reads
    reader: Reader

    def rows(self, table: Table, nodes: list[FieldNode]) -> str:
        """Given the nodes of a list field, return the JSON of its rows, keyed as the answer needs them."""
        return f"[{','.join(self._read(table, nodes, self.reader.arguments(nodes[0])))}]"

    def by_key(self, table: Table, nodes: list[FieldNode]) -> str:
        """Given the nodes of a `_by_pk` field, return the JSON of the row with that id, or null."""
        key = self.reader.arguments(nodes[0]).get("id")
        found = [] if key is None else self._read(table, nodes, {"where": {"id": {"_eq": key}}, "limit": 1})
        return found[0] if found else "null"

    def aggregate(self, table: Table, nodes: list[FieldNode]) -> str:
        """Given the nodes of an `_aggregate` field, return the JSON of its object."""

        def selected(selection: _Selection) -> str:
            return f"SELECT {selection.aggregate(table, nodes, ALL, selection.statement.new_row())}"

        return self._texts(selected)[0]

    def _read(self, table: Table, nodes: list[FieldNode], arguments: dict[str, Any]) -> list[str]:
        def selected(selection: _Selection) -> str:
            row = selection.statement.new_row()
            return selection.select(selection.fields(table, row, nodes), table, row, arguments, ALL)

        return self._texts(selected)

    def _texts(self, selected: Callable[[_Selection], str]) -> list[str]:
        selection = _Selection(Statement(), self.reader)
        try:
            return self.reads.texts(selected(selection), selection.statement.parameters)
        except sqlite3.OperationalError as error:
            if "malformed JSON" not in str(error):
                raise
        # An earlier version took JSON that is nested deeper than SQLite reads. It is left out, and not all others.
        selection = _Selection(Statement(), self.reader, is_careful=True)
        return self.reads.texts(selected(selection), selection.statement.parameters)


@dataclass(frozen=True)
class _Selection:
    statement: Statement
    reader: Reader
    is_careful: bool = False

    def fields(self, table: Table, row: str, nodes: list[FieldNode]) -> str:
        """Return an expression for the JSON object of what is selected of a row."""
        selected = self.reader.fields(nodes)
        if len(selected) > _MAX_FIELDS:
            raise RefusedError(f"More than {_MAX_FIELDS} fields of one {table.name} in one selection")
        pairs = (f"'{name}', {self._field(table, row, same)}" for name, same in selected.items())
        return f"json_object({', '.join(pairs)})"

    def _field(self, table: Table, row: str, nodes: list[FieldNode]) -> str:
        name = nodes[0].name.value
        if name == "__typename":
            return f"'{table.name}'"
        if name in table.by_name:
            return self._value(table.by_name[name], row)
        if name in table.relation_by_name:
            return self._related(table.relation_by_name[name], row, nodes)
        relation = table.relation_by_name[name.removesuffix("_aggregate")]
        other = self.statement.new_row()
        return f"json({self.aggregate(BY_NAME[relation.table], nodes, _join(relation, row, other), other)})"

    def _value(self, column: Column, row: str) -> str:
        """Return the SQL of a value as JSON has it."""
        value = column.sql(row)
        if column.kind is Kind.BOOL:
            return f"json(CASE {value} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END)"
        if column.kind is not Kind.JSON:
            return value
        return f"CASE WHEN json_valid({value}) THEN json({value}) END" if self.is_careful else f"json({value})"

    def _related(self, relation: Relation, row: str, nodes: list[FieldNode]) -> str:
        table = BY_NAME[relation.table]
        other = self.statement.new_row()
        fields = self.fields(table, other, nodes)
        join = _join(relation, row, other)
        if not relation.many:
            return f"json((SELECT {fields} FROM {table.name} {other} WHERE {join}))"  # noqa: S608 - names of our own
        return self._list(table, other, fields, self.reader.arguments(nodes[0]), join)

    def _list(self, table: Table, row: str, fields: str, arguments: dict[str, Any], join: str) -> str:
        # The limit keeps SQLite from dropping the order of the inner select.
        inner = self.select(f"{fields} AS j", table, row, {"limit": -1, **arguments}, join)
        return f"json((SELECT json_group_array(json(j)) FROM ({inner})))"  # noqa: S608 - names of our own

    def aggregate(self, table: Table, nodes: list[FieldNode], join: str, row: str) -> str:
        """Return an expression for the JSON object of an aggregate over the rows that `join` picks."""
        arguments = self.reader.arguments(nodes[0])
        pairs = []
        for name, same in self.reader.fields(nodes).items():
            if same[0].name.value == "nodes":
                fields = self.fields(table, row, same)
                pairs.append(f"'{name}', {self._list(table, row, fields, arguments, join)}")
            elif same[0].name.value == "aggregate":
                pairs.append(f"'{name}', {self._counts(table, row, same, arguments, join)}")
            else:
                pairs.append(f"'{name}', '{table.name}_aggregate'")
        return f"json_object({', '.join(pairs)})"

    def _counts(self, table: Table, row: str, nodes: list[FieldNode], arguments: dict[str, Any], join: str) -> str:
        # A count has no order, unless it is of a page.
        counted = {name: value for name, value in arguments.items() if name != "order_by"}
        inner = self.select("1", table, row, counted, join)
        count = f"(SELECT count(*) FROM ({inner}))"  # noqa: S608 - names of our own
        pairs = (
            f"'{name}', " + (count if same[0].name.value == "count" else f"'{table.name}_aggregate_fields'")
            for name, same in self.reader.fields(nodes).items()
        )
        return f"json_object({', '.join(pairs)})"

    def select(self, what: str, table: Table, row: str, arguments: dict[str, Any], join: str) -> str:
        """Return a SELECT of `what` from the table's rows that fit `join` and the arguments, in their order."""
        where = condition(self.statement, table, row, arguments.get("where"))
        order = _order(table, row, arguments.get("order_by"))
        source = f"{table.name} {row} WHERE ({join}) AND ({where})"
        if arguments.get("distinct_on"):
            source = self._distinct(table, row, source, arguments["distinct_on"], order)
            order = order.replace(f"{row}.rowid", f"{row}.since")
        return f"SELECT {what} FROM {source}{order}{self._page(arguments)}"  # noqa: S608 - names of our own

    def _distinct(self, table: Table, row: str, source: str, columns: object, order: str) -> str:
        by = ", ".join(table.by_name[str(name)].sql(row) for name in as_list(columns))
        ranked = (
            f"SELECT {row}.*, {row}.rowid AS since, row_number() OVER (PARTITION BY {by}{order}) AS place"  # noqa: S608 - names of our own
            f" FROM {source}"
        )
        return f"({ranked}) {row} WHERE {row}.place = 1"

    def _page(self, arguments: dict[str, Any]) -> str:
        limit, offset = arguments.get("limit"), arguments.get("offset")
        if limit is None and offset is None:
            return ""
        page = f" LIMIT {self.statement.bind(-1 if limit is None else int(limit))}"
        return page if offset is None else f"{page} OFFSET {self.statement.bind(int(offset))}"


def _join(relation: Relation, row: str, other: str) -> str:
    return f"{other}.{relation.there} = {row}.{relation.here}"


def _order(table: Table, row: str, order_by: object) -> str:
    terms = [
        term
        for each in as_list(order_by or [])
        for name, direction in each.items()
        for term in _terms(table, row, name, direction)
    ]
    if len(terms) > _MAX_TERMS:
        raise TooLargeError(f"{table.name} is ordered by {len(terms)} things; at most {_MAX_TERMS} are taken")
    # Rows that are alike come in the order in which they were made, whichever index they are read from: without this,
    # `tenant { id }` had them by their ids, and whoever takes the first took another tenant once there were two.
    last = "DESC" if terms and terms[-1].split()[-1] == "DESC" else "ASC"
    return f" ORDER BY {', '.join([*terms, f'{row}.rowid {last}'])}"


def _term(column: Column, row: str, direction: str) -> str:
    # Without the word on nulls, where there are none, an index over the column has the rows in order already.
    order = _DIRECTIONS[direction].partition(" NULLS")[0] if column.is_never_null else _DIRECTIONS[direction]
    return f"{column.sql(row)} {order}"


def _terms(table: Table, row: str, name: str, direction: object) -> list[str]:
    if direction is None:
        return []
    if name in table.by_name:
        return [_term(table.by_name[name], row, str(direction))]
    relation = table.relation_by_name.get(name)
    if relation is None or relation.many or not isinstance(direction, dict):
        raise RefusedError(f"{table.name} cannot be ordered by {name}")
    target = BY_NAME[relation.table]
    return [
        f"(SELECT {target.by_name[inner].sql('o')} FROM {target.name} o WHERE {_join(relation, row, 'o')})"  # noqa: S608 - names of our own
        f" {_DIRECTIONS[str(inner_direction)]}"
        for inner, inner_direction in direction.items()
        if inner_direction is not None and inner in target.by_name
    ]
