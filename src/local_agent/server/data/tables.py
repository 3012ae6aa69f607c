"""Everything the API can be asked about, said once.

The SQL tables (datafile.py), the GraphQL types with their filters (schema.py) and the translation of a query into
SQL (reading.py) all follow from the descriptions here.
"""

from __future__ import annotations

from local_agent.server.data.descriptions import (
    GONE,
    Column,
    Index,
    Kind,
    Table,
    boolean,
    integer,
    json,
    many,
    one,
    owner,
    text,
    time,
    uuid,
)

_ROW = (uuid("id", "PRIMARY KEY NOT NULL"), time("created", "NOT NULL"), time("updated", "NOT NULL"))
_TENANT = owner("tenant_id", "tenant")

# What a run knows of its newest state, so that nobody has to look into its history for it.
_NEWEST_STATE = (
    text("name"),
    integer("version", "NOT NULL DEFAULT 0"),
    time("heartbeat"),
    time("start_time"),
    time("end_time"),
    text("state"),
    time("state_timestamp"),
    time("state_start_time"),
    text("state_message"),
    json("serialized_state"),
)

# One row of a run's history.
_STATE = (
    time("timestamp", "NOT NULL"),
    text("state", "NOT NULL"),
    integer("version", "NOT NULL"),
    text("message"),
    time("start_time"),
    json("serialized_state", "NOT NULL"),
)

WAITING = ("Scheduled", "Paused", "Queued", "Resume", "Retrying")
# As the indexes below have it: SQLite uses one only for a condition in the very same words.
WAITING_SQL = f"state IN ({', '.join(repr(name) for name in WAITING)})"
RUNNING_SQL = "state = 'Running'"

TABLES = (
    Table(
        "tenant",
        (*_ROW, text("name", "NOT NULL"), text("slug", "NOT NULL UNIQUE"), json("settings"), json("info")),
        (
            many("projects", "project", "tenant_id"),
            many("flows", "flow", "tenant_id"),
            many("flow_runs", "flow_run", "tenant_id"),
            many("agents", "agent", "tenant_id"),
        ),
    ),
    Table(
        "project",
        (*_ROW, _TENANT, text("name", "NOT NULL"), text("description")),
        (one("tenant", "tenant", "tenant_id"), many("flows", "flow", "project_id")),
        constraints=("UNIQUE (tenant_id, name)",),
    ),
    Table(
        "flow_group",
        (
            *_ROW,
            _TENANT,
            text("name", "NOT NULL"),
            text("description"),
            json("settings", "NOT NULL"),
            json("default_parameters", "NOT NULL DEFAULT '{}'"),
            json("schedule"),
            json("labels"),
            json("run_config"),
        ),
        (one("tenant", "tenant", "tenant_id"), many("flows", "flow", "flow_group_id")),
        constraints=("UNIQUE (tenant_id, name)",),
    ),
    Table(
        "flow",
        (
            *_ROW,
            _TENANT,
            owner("project_id", "project"),
            owner("flow_group_id", "flow_group"),
            text("name", "NOT NULL"),
            text("description"),
            boolean("archived"),
            integer("version", "NOT NULL"),
            text("version_group_id", "NOT NULL"),
            text("core_version"),
            json("serialized_flow", "NOT NULL"),
            json("environment"),
            json("run_config"),
            json("storage"),
            json("parameters", "NOT NULL DEFAULT '[]'"),
            json("schedule"),
            boolean("is_schedule_active"),
            Column(
                "settings",
                Kind.JSON,
                computed="(SELECT g.settings FROM flow_group g WHERE g.id = {row}.flow_group_id)",
            ),
        ),
        (
            one("tenant", "tenant", "tenant_id"),
            one("project", "project", "project_id"),
            one("flow_group", "flow_group", "flow_group_id"),
            many("tasks", "task", "flow_id"),
            many("edges", "edge", "flow_id"),
            many("flow_runs", "flow_run", "flow_id"),
            many("versions", "flow", "version_group_id", "version_group_id"),
        ),
        indexes=(Index("flow_group_id"), Index("project_id, name"), Index("name"), Index("version_group_id, version")),
    ),
    Table(
        "task",
        (
            *_ROW,
            _TENANT,
            owner("flow_id", "flow"),
            text("name"),
            text("slug", "NOT NULL"),
            text("description"),
            text("type"),
            integer("max_retries", "NOT NULL DEFAULT 0"),
            # As PostgreSQL writes an interval: 00:11:00 (intervals.py).
            text("retry_delay"),
            text("trigger"),
            json("tags", "NOT NULL DEFAULT '[]'"),
            boolean("mapped"),
            boolean("auto_generated"),
            text("cache_key"),
            boolean("is_reference_task"),
            boolean("is_root_task"),
            boolean("is_terminal_task"),
        ),
        (
            one("tenant", "tenant", "tenant_id"),
            one("flow", "flow", "flow_id"),
            many("task_runs", "task_run", "task_id"),
        ),
        constraints=("UNIQUE (flow_id, slug)",),
    ),
    Table(
        "edge",
        (
            *_ROW,
            _TENANT,
            owner("flow_id", "flow"),
            owner("upstream_task_id", "task"),
            owner("downstream_task_id", "task"),
            text("key"),
            boolean("mapped"),
        ),
        (
            one("flow", "flow", "flow_id"),
            one("upstream_task", "task", "upstream_task_id"),
            one("downstream_task", "task", "downstream_task_id"),
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
        (*_ROW, _TENANT, text("name"), json("settings", "NOT NULL DEFAULT '{}'")),
        (one("tenant", "tenant", "tenant_id"),),
    ),
    Table(
        "agent",
        (
            *_ROW,
            _TENANT,
            uuid("agent_config_id"),
            text("name"),
            text("type", "NOT NULL"),
            text("core_version"),
            json("labels", "NOT NULL"),
            time("last_queried"),
        ),
        (
            one("tenant", "tenant", "tenant_id"),
            one("agent_config", "agent_config", "agent_config_id"),
            many("flow_runs", "flow_run", "agent_id"),
        ),
        indexes=(Index("tenant_id, name, type"),),
    ),
    Table(
        "flow_run",
        (
            *_ROW,
            _TENANT,
            owner("flow_id", "flow"),
            json("labels", "NOT NULL"),
            json("parameters", "NOT NULL"),
            json("context", "NOT NULL"),
            json("run_config"),
            time("scheduled_start_time", "NOT NULL"),
            boolean("auto_scheduled"),
            integer("times_resurrected", "NOT NULL DEFAULT 0"),
            text("idempotency_key"),
            uuid("agent_id"),
            *_NEWEST_STATE,
        ),
        (
            one("tenant", "tenant", "tenant_id"),
            one("flow", "flow", "flow_id"),
            one("agent", "agent", "agent_id"),
            many("states", "flow_run_state", "flow_run_id"),
            many("task_runs", "task_run", "flow_run_id"),
            many("logs", "log", "flow_run_id"),
        ),
        constraints=("UNIQUE (flow_id, idempotency_key)",),
        indexes=(
            Index("created"),
            Index("name"),
            Index("agent_id"),
            GONE,
            GONE,
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
        (*_ROW, _TENANT, owner("flow_run_id", "flow_run"), *_STATE),
        (one("flow_run", "flow_run", "flow_run_id"),),
        indexes=(Index("flow_run_id, version"),),
        is_history=True,
    ),
    Table(
        "task_run",
        (
            *_ROW,
            _TENANT,
            owner("flow_run_id", "flow_run"),
            owner("task_id", "task"),
            integer("map_index", "NOT NULL"),
            text("cache_key"),
            *_NEWEST_STATE,
        ),
        (
            one("tenant", "tenant", "tenant_id"),
            one("flow_run", "flow_run", "flow_run_id"),
            one("task", "task", "task_id"),
            many("states", "task_run_state", "task_run_id"),
            many("logs", "log", "task_run_id"),
            many("artifacts", "task_run_artifact", "task_run_id"),
        ),
        constraints=("UNIQUE (flow_run_id, task_id, map_index)",),
        indexes=(
            Index("task_id, state"),
            Index("cache_key, state"),
            GONE,
            # The queue looks here whether a flow run is to be resumed, and not at every task run of it.
            Index("flow_run_id, state_start_time", where=WAITING_SQL),
        ),
    ),
    Table(
        "task_run_state",
        (*_ROW, _TENANT, owner("task_run_id", "task_run"), *_STATE),
        (one("task_run", "task_run", "task_run_id"),),
        indexes=(Index("task_run_id, version"),),
        is_history=True,
    ),
    Table(
        "log",
        (
            *_ROW,
            _TENANT,
            owner("flow_run_id", "flow_run"),
            uuid("task_run_id"),
            time("timestamp", "NOT NULL"),
            text("name"),
            text("level", "NOT NULL"),
            text("message"),
            json("info"),
        ),
        (one("flow_run", "flow_run", "flow_run_id"), one("task_run", "task_run", "task_run_id")),
        indexes=(Index("flow_run_id, timestamp"), Index("task_run_id")),
        is_history=True,
    ),
    Table(
        "task_run_artifact",
        (
            *_ROW,
            _TENANT,
            owner("task_run_id", "task_run"),
            text("kind", "NOT NULL"),
            json("data", "NOT NULL"),
        ),
        (one("task_run", "task_run", "task_run_id"),),
        indexes=(Index("task_run_id"),),
    ),
    Table(
        "key_value",
        (*_ROW, _TENANT, text("key", "NOT NULL"), json("value", "NOT NULL")),
        (one("tenant", "tenant", "tenant_id"),),
        constraints=("UNIQUE (tenant_id, key)",),
    ),
)

BY_NAME = {table.name: table for table in TABLES}
