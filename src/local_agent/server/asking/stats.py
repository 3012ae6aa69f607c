"""Who asked for what, since the start: for administrators, and for tests that count requests."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of agents that were not heard of for longer than so many others, nothing is kept but their part of the totals: whoever
# may ask may call himself by any number of ids.
_MAX_AGENTS = 500


@dataclass
class _Counters:
    requests: int = 0
    operations: Counter[str] = field(default_factory=Counter)

    def add(self, operations: list[str]) -> None:
        self.requests += 1
        self.operations.update(operations)

    def as_json(self) -> dict[str, Any]:
        return {"requests": self.requests, "operations": dict(self.operations)}


class Stats:
    """Counters. Safe to use from several threads."""

    def __init__(self, most_agents: int = _MAX_AGENTS) -> None:
        self._most_agents = most_agents
        self._lock = threading.Lock()
        self._connections = 0
        self._total = _Counters()
        self._agents: OrderedDict[str, _Counters] = OrderedDict()

    def connected(self) -> None:
        """Count a TCP connection."""
        with self._lock:
            self._connections += 1

    def count(self, headers: Mapping[str, str], operations: list[str]) -> None:
        """Count a request and the operations in it, for the agent that its headers name (or for nobody, "")."""
        agent_id = headers.get("x-prefect-agent-id", "")
        with self._lock:
            self._total.add(operations)
            self._agents.setdefault(agent_id, _Counters()).add(operations)
            self._agents.move_to_end(agent_id)
            if len(self._agents) > self._most_agents:
                self._agents.popitem(last=False)

    def as_json(self) -> dict[str, Any]:
        """Return all counters: in total, and by the agent's id for those that were heard of last."""
        with self._lock:
            agents = {agent_id: counters.as_json() for agent_id, counters in self._agents.items()}
            return {"connections": self._connections, **self._total.as_json(), "agents": agents}
