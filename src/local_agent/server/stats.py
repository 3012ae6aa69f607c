"""Who asked for what, since the start: for administrators, and for tests that count requests."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any


class Stats:
    """Counters. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections = 0
        self._requests: Counter[str] = Counter()
        self._operations: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def connected(self) -> None:
        """Count a TCP connection."""
        with self._lock:
            self._connections += 1

    def count(self, headers: Mapping[str, str], operations: list[str]) -> None:
        """Count a request and the operations in it, for the agent that its headers name (or for nobody, "")."""
        agent_id = headers.get("x-prefect-agent-id", "")
        with self._lock:
            self._requests[agent_id] += 1
            self._operations[agent_id].update(operations)

    def as_json(self) -> dict[str, Any]:
        """Return all counters: in total, and by the agent's id."""
        with self._lock:
            total: Counter[str] = sum(self._operations.values(), Counter())
            return {
                "connections": self._connections,
                "requests": self._requests.total(),
                "operations": dict(total),
                "agents": {
                    agent_id: {"requests": requests, "operations": dict(self._operations[agent_id])}
                    for agent_id, requests in self._requests.items()
                },
            }
