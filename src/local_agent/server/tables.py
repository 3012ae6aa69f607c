"""Everything the API can be asked about, said once.

The SQL tables (database.py), the GraphQL types with their filters (schema.py) and the translation of a query into
SQL (reading.py) all follow from the descriptions here.
"""

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
    its place to _GONE, without columns, which drops it.
    """

    columns: str
    where: str = ""
    unique: bool = False


_GONE = Index("")


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


def _text(name: str, stored: str = "") -> Column:
    return Column(name, Kind.TEXT, stored)


def _uuid(name: str, stored: str = "") -> Column:
    return Column(name, Kind.UUID, stored)


def _int(name: str, stored: str = "") -> Column:
    return Column(name, Kind.INT, stored)


def _bool(name: str, stored: str = "NOT NULL DEFAULT 0") -> Column:
    return Column(name, Kind.BOOL, stored)


def _time(name: str, stored: str = "") -> Column:
    return Column(name, Kind.TIME, stored)


def _json(name: str, stored: str = "") -> Column:
    return Column(name, Kind.JSON, stored)


def _owner(name: str, table: str) -> Column:
    """A row that dies with the row it names."""
    return Column(name, Kind.UUID, f"NOT NULL REFERENCES {table}(id) ON DELETE CASCADE")


def _one(name: str, table: str, here: str) -> Relation:
    return Relation(name, table, here, "id", many=False)


def _many(name: str, table: str, there: str, here: str = "id") -> Relation:
    return Relation(name, table, here, there, many=True)


_ROW = (_uuid("id", "PRIMARY KEY NOT NULL"), _time("created", "NOT NULL"), _time("updated", "NOT NULL"))
_TENANT = _owner("tenant_id", "tenant")

# What a run knows of its newest state, so that nobody has to look into its history for it.
_NEWEST_STATE = (
    _text("name"),
    _int("version", "NOT NULL DEFAULT 0"),
    _time("heartbeat"),
    _time("start_time"),
    _time("end_time"),
    _text("state"),
    _time("state_timestamp"),
    _time("state_start_time"),
    _text("state_message"),
    _json("serialized_state"),
)

# One row of a run's history.
_STATE = (
    _time("timestamp", "NOT NULL"),
    _text("state", "NOT NULL"),
    _int("version", "NOT NULL"),
    _text("message"),
    _time("start_time"),
    _json("serialized_state", "NOT NULL"),
)

WAITING = ("Scheduled", "Paused", "Queued", "Resume", "Retrying")
# As the indexes below have it: SQLite uses one only for a condition in the very same words.
WAITING_SQL = f"state IN ({', '.join(repr(name) for name in WAITING)})"
RUNNING_SQL = "state = 'Running'"

TABLES = (
    Table(
        "tenant",
        (*_ROW, _text("name", "NOT NULL"), _text("slug", "NOT NULL UNIQUE"), _json("settings"), _json("info")),
        (
            _many("projects", "project", "tenant_id"),
            _many("flows", "flow", "tenant_id"),
            _many("flow_runs", "flow_run", "tenant_id"),
            _many("agents", "agent", "tenant_id"),
        ),
    ),
    Table(
        "project",
        (*_ROW, _TENANT, _text("name", "NOT NULL"), _text("description")),
        (_one("tenant", "tenant", "tenant_id"), _many("flows", "flow", "project_id")),
        constraints=("UNIQUE (tenant_id, name)",),
    ),
    Table(
        "flow_group",
        (
            *_ROW,
            _TENANT,
            _text("name", "NOT NULL"),
            _text("description"),
            _json("settings", "NOT NULL"),
            _json("default_parameters", "NOT NULL DEFAULT '{}'"),
            _json("schedule"),
            _json("labels"),
            _json("run_config"),
        ),
        (_one("tenant", "tenant", "tenant_id"), _many("flows", "flow", "flow_group_id")),
        constraints=("UNIQUE (tenant_id, name)",),
    ),
    Table(
        "flow",
        (
            *_ROW,
            _TENANT,
            _owner("project_id", "project"),
            _owner("flow_group_id", "flow_group"),
            _text("name", "NOT NULL"),
            _text("description"),
            _bool("archived"),
            _int("version", "NOT NULL"),
            _text("version_group_id", "NOT NULL"),
            _text("core_version"),
            _json("serialized_flow", "NOT NULL"),
            _json("environment"),
            _json("run_config"),
            _json("storage"),
            _json("parameters", "NOT NULL DEFAULT '[]'"),
            _json("schedule"),
            _bool("is_schedule_active"),
            Column(
                "settings",
                Kind.JSON,
                computed="(SELECT g.settings FROM flow_group g WHERE g.id = {row}.flow_group_id)",
            ),
        ),
        (
            _one("tenant", "tenant", "tenant_id"),
            _one("project", "project", "project_id"),
            _one("flow_group", "flow_group", "flow_group_id"),
            _many("tasks", "task", "flow_id"),
            _many("edges", "edge", "flow_id"),
            _many("flow_runs", "flow_run", "flow_id"),
            _many("versions", "flow", "version_group_id", "version_group_id"),
        ),
        indexes=(Index("flow_group_id"), Index("project_id, name"), Index("name"), Index("version_group_id, version")),
    ),
    Table(
        "task",
        (
            *_ROW,
            _TENANT,
            _owner("flow_id", "flow"),
            _text("name"),
            _text("slug", "NOT NULL"),
            _text("description"),
            _text("type"),
            _int("max_retries", "NOT NULL DEFAULT 0"),
            # As PostgreSQL writes an interval: 00:11:00 (intervals.py).
            _text("retry_delay"),
            _text("trigger"),
            _json("tags", "NOT NULL DEFAULT '[]'"),
            _bool("mapped"),
            _bool("auto_generated"),
            _text("cache_key"),
            _bool("is_reference_task"),
            _bool("is_root_task"),
            _bool("is_terminal_task"),
        ),
        (
            _one("tenant", "tenant", "tenant_id"),
            _one("flow", "flow", "flow_id"),
            _many("task_runs", "task_run", "task_id"),
        ),
        constraints=("UNIQUE (flow_id, slug)",),
    ),
    Table(
        "edge",
        (
            *_ROW,
            _TENANT,
            _owner("flow_id", "flow"),
            _owner("upstream_task_id", "task"),
            _owner("downstream_task_id", "task"),
            _text("key"),
            _bool("mapped"),
        ),
        (
            _one("flow", "flow", "flow_id"),
            _one("upstream_task", "task", "upstream_task_id"),
            _one("downstream_task", "task", "downstream_task_id"),
        ),
        indexes=(
            # One edge without a key is as good as two.
            Index("flow_id, upstream_task_id, downstream_task_id, coalesce(key, '')", unique=True),
            Index("upstream_task_id"),
            Index("downstream_task_id"),
        ),
    ),
    Table(
        "agent_config",
        (*_ROW, _TENANT, _text("name"), _json("settings", "NOT NULL DEFAULT '{}'")),
        (_one("tenant", "tenant", "tenant_id"),),
    ),
    Table(
        "agent",
        (
            *_ROW,
            _TENANT,
            _uuid("agent_config_id"),
            _text("name"),
            _text("type", "NOT NULL"),
            _text("core_version"),
            _json("labels", "NOT NULL"),
            _time("last_queried"),
        ),
        (
            _one("tenant", "tenant", "tenant_id"),
            _one("agent_config", "agent_config", "agent_config_id"),
            _many("flow_runs", "flow_run", "agent_id"),
        ),
        indexes=(Index("tenant_id, name, type"),),
    ),
    Table(
        "flow_run",
        (
            *_ROW,
            _TENANT,
            _owner("flow_id", "flow"),
            _json("labels", "NOT NULL"),
            _json("parameters", "NOT NULL"),
            _json("context", "NOT NULL"),
            _json("run_config"),
            _time("scheduled_start_time", "NOT NULL"),
            _bool("auto_scheduled"),
            _int("times_resurrected", "NOT NULL DEFAULT 0"),
            _text("idempotency_key"),
            _uuid("agent_id"),
            *_NEWEST_STATE,
        ),
        (
            _one("tenant", "tenant", "tenant_id"),
            _one("flow", "flow", "flow_id"),
            _one("agent", "agent", "agent_id"),
            _many("states", "flow_run_state", "flow_run_id"),
            _many("task_runs", "task_run", "flow_run_id"),
            _many("logs", "log", "flow_run_id"),
        ),
        constraints=("UNIQUE (flow_id, idempotency_key)",),
        indexes=(
            Index("created"),
            Index("name"),
            Index("agent_id"),
            _GONE,
            _GONE,
            # The queue (queue.py) finds the label sets that fit, and of each the earliest runs.
            Index("tenant_id, labels, state_start_time", where=WAITING_SQL),
            Index("tenant_id, labels", where=RUNNING_SQL),
            # What becomes of a flow that is archived: a long history is not looked through for it.
            Index("flow_id", where="state = 'Scheduled'"),
            # Pages of a list, as users look at them: those in a state, the newest of a flow, the newest by their time.
            Index("state"),
            Index("flow_id, created"),
            Index("scheduled_start_time"),
        ),
    ),
    Table(
        "flow_run_state",
        (*_ROW, _TENANT, _owner("flow_run_id", "flow_run"), *_STATE),
        (_one("flow_run", "flow_run", "flow_run_id"),),
        indexes=(Index("flow_run_id, version"),),
        is_history=True,
    ),
    Table(
        "task_run",
        (
            *_ROW,
            _TENANT,
            _owner("flow_run_id", "flow_run"),
            _owner("task_id", "task"),
            _int("map_index", "NOT NULL"),
            _text("cache_key"),
            *_NEWEST_STATE,
        ),
        (
            _one("tenant", "tenant", "tenant_id"),
            _one("flow_run", "flow_run", "flow_run_id"),
            _one("task", "task", "task_id"),
            _many("states", "task_run_state", "task_run_id"),
            _many("logs", "log", "task_run_id"),
            _many("artifacts", "task_run_artifact", "task_run_id"),
        ),
        constraints=("UNIQUE (flow_run_id, task_id, map_index)",),
        indexes=(
            Index("task_id, state"),
            Index("cache_key, state"),
            _GONE,
            # The queue looks here whether a flow run is to be resumed, and not at every task run of it.
            Index("flow_run_id, state_start_time", where=WAITING_SQL),
        ),
    ),
    Table(
        "task_run_state",
        (*_ROW, _TENANT, _owner("task_run_id", "task_run"), *_STATE),
        (_one("task_run", "task_run", "task_run_id"),),
        indexes=(Index("task_run_id, version"),),
        is_history=True,
    ),
    Table(
        "log",
        (
            *_ROW,
            _TENANT,
            _owner("flow_run_id", "flow_run"),
            _uuid("task_run_id"),
            _time("timestamp", "NOT NULL"),
            _text("name"),
            _text("level", "NOT NULL"),
            _text("message"),
            _json("info"),
        ),
        (_one("flow_run", "flow_run", "flow_run_id"), _one("task_run", "task_run", "task_run_id")),
        indexes=(Index("flow_run_id, timestamp"), Index("task_run_id")),
        is_history=True,
    ),
    Table(
        "task_run_artifact",
        (
            *_ROW,
            _TENANT,
            _owner("task_run_id", "task_run"),
            _text("kind", "NOT NULL"),
            _json("data", "NOT NULL"),
        ),
        (_one("task_run", "task_run", "task_run_id"),),
        indexes=(Index("task_run_id"),),
    ),
    Table(
        "key_value",
        (*_ROW, _TENANT, _text("key", "NOT NULL"), _json("value", "NOT NULL")),
        (_one("tenant", "tenant", "tenant_id"),),
        constraints=("UNIQUE (tenant_id, key)",),
    ),
)

BY_NAME = {table.name: table for table in TABLES}
