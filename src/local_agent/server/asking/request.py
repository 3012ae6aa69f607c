"""One request: as it came, and as the functions that answer it see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from local_agent.server.data.database import Database
from local_agent.server.data.locks import ExpiringSet
from local_agent.server.data.reads import Reads


@dataclass(slots=True)
class Asked:
    """A request as it came: its body, and its headers, which are keyed in lower case.

    `client` tells clients apart, as far as that can be told: an address, or a user. `is_allowed` says that it needs no
    key: the kernel has told whose it is. `progress` is for whoever answers it in several steps.
    """

    body: bytes
    headers: Mapping[str, str]
    client: str = ""
    is_allowed: bool = False
    progress: object = None


@dataclass(frozen=True)
class Steps:
    """A mutation that may take long, in steps. After each, what it did is kept, and others may have their turn.

    `answer` is called when there are no more, and returns what an operation that needs no steps returns at once.
    """

    each: Iterator[None]
    answer: Callable[[], object]


@dataclass(frozen=True)
class Request:
    """What an operation has at hand. Headers are keyed in lower case; `say` prints a line for the administrator.

    `reads` is what queries read from: the database, or for a long read a connection of its own.
    """

    database: Database
    reads: Reads
    submit_lock: ExpiringSet
    say: Callable[[str], None]
    headers: Mapping[str, str]
    keyed: bool = False

    @property
    def agent_id(self) -> str:
        """The agent that asks, or nothing: flow runs do not say whose they are."""
        return self.headers.get("x-prefect-agent-id", "")

    @property
    def core_version(self) -> str | None:
        """The version of Prefect that asks."""
        return self.headers.get("x-prefect-core-version")

    def tenant_id(self) -> str:
        """Return the tenant of the request: the one its header names, else the first."""
        named = self.headers.get("x-prefect-tenant-id")
        if named:
            return named
        return str(self.reads.value("SELECT id FROM tenant ORDER BY created, rowid LIMIT 1"))
