"""What tables are described with: columns, indexes, and relations to other tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What a column holds: its name in GraphQL, as in the real API, and how SQLite stores it."""

    TEXT = ("String", "TEXT")
    UUID = ("uuid", "TEXT")
    INT = ("Int", "INTEGER")
    BOOL = ("Boolean", "INTEGER")
    TIME = ("timestamptz", "TEXT")
    JSON = ("jsonb", "TEXT")

    def __init__(self, graphql: str, sql: str) -> None:
        self.graphql = graphql
        self.sql = sql


@dataclass(frozen=True)
class Column:
    """A column: `stored` is what CREATE TABLE says after its type; `computed` is SQL over `{row}` instead."""

    name: str
    kind: Kind = Kind.TEXT
    stored: str = ""
    computed: str = ""

    @property
    def is_never_null(self) -> bool:
        """Whether every row has a value here."""
        return "NOT NULL" in self.stored

    def sql(self, row: str) -> str:
        """Given the alias of a row, return the SQL expression of this column's value."""
        return self.computed.format(row=row) if self.computed else f"{row}.{self.name}"


@dataclass(frozen=True)
class Relation:
    """From a row to other rows: those of `table` whose column `there` equals this row's column `here`."""

    name: str
    table: str
    here: str
    there: str
    many: bool


@dataclass(frozen=True)
class Index:
    """An index over columns (as SQL lists them), of the rows that satisfy `where` if that is given.

    It is known by its place in its table: a new one comes after the others, and one that is no longer needed leaves
    its place to GONE, without columns, which drops it.
    """

    columns: str
    where: str = ""
    unique: bool = False


GONE = Index("")


@dataclass(frozen=True)
class Table:
    """A table as GraphQL shows it. Rows of a history are only ever added, and nobody knows them by their ids."""

    name: str
    columns: tuple[Column, ...]
    relations: tuple[Relation, ...] = ()
    constraints: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    is_history: bool = False
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)
    relation_by_name: dict[str, Relation] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})
        object.__setattr__(self, "relation_by_name", {r.name: r for r in self.relations})


def text(name: str, stored: str = "") -> Column:
    """A column of texts."""
    return Column(name, Kind.TEXT, stored)


def uuid(name: str, stored: str = "") -> Column:
    """A column of ids."""
    return Column(name, Kind.UUID, stored)


def integer(name: str, stored: str = "") -> Column:
    """A column of whole numbers."""
    return Column(name, Kind.INT, stored)


def boolean(name: str, stored: str = "NOT NULL DEFAULT 0") -> Column:
    """A column of truth values; false where nothing else is said."""
    return Column(name, Kind.BOOL, stored)


def time(name: str, stored: str = "") -> Column:
    """A column of times."""
    return Column(name, Kind.TIME, stored)


def json(name: str, stored: str = "") -> Column:
    """A column of JSON values."""
    return Column(name, Kind.JSON, stored)


def owner(name: str, table: str) -> Column:
    """A row that dies with the row it names."""
    return Column(name, Kind.UUID, f"NOT NULL REFERENCES {table}(id) ON DELETE CASCADE")


def one(name: str, table: str, here: str) -> Relation:
    """The one row that a row belongs to, by its column `here`."""
    return Relation(name, table, here, "id", many=False)


def many(name: str, table: str, there: str, here: str = "id") -> Relation:
    """The rows that belong to a row, by their column `there`."""
    return Relation(name, table, here, there, many=True)
