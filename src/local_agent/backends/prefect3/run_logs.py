"""Lines for the logs of flow runs, as Prefect's own workers write them: many runs' lines in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from local_agent.aio.batching import in_parts
from local_agent.aio.clock import Backoff
from local_agent.errors import CredentialError, UnavailableError
from local_agent.plain import sendable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect3.pool import Pool

_LOGGER = "prefect.flow_runs.worker"
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_MAX_WAITING = 10_000
_MAX_AT_ONCE = 500
_MAX_CHARACTERS = 100_000  # of a request: the API takes 1 MB, in which a character may take 6 bytes
_GATHER_SECONDS = 0.5


class RunLogs:
    """Queues lines and sends them in batches; during an outage the newest ten thousand wait."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._waiting: deque[Mapping[str, Any]] = deque(maxlen=_MAX_WAITING)
        self._has_lines = asyncio.Event()

    def add(self, flow_run_id: str, message: str, level: str) -> None:
        """Queue one line, stamped now."""
        line = {
            "flow_run_id": flow_run_id,
            "timestamp": self._clock.now().isoformat(),
            "name": _LOGGER,
            "message": sendable(message),
            "level": _LEVELS.get(level, 20),
        }
        self._waiting.append(line)
        self._has_lines.set()

    async def send_for_ever(self) -> None:
        """Send what is queued, until cancelled. A line that is refused for itself is dropped."""
        backoff = Backoff(0.5, 10)
        while True:
            await self._has_lines.wait()
            await self._clock.sleep(_GATHER_SECONDS)
            batch = self._next_batch()
            answers = await in_parts(batch, self._send)
            lost = [isinstance(one, (UnavailableError, CredentialError)) for one in answers]
            self._put_back([line for line, is_lost in zip(batch, lost, strict=True) if is_lost])
            if any(lost):
                await self._clock.sleep(backoff.next_seconds())
            else:
                backoff.reset()

    def _next_batch(self) -> list[Mapping[str, Any]]:
        batch: list[Mapping[str, Any]] = []
        size = 0
        while self._waiting and len(batch) < _MAX_AT_ONCE and size < _MAX_CHARACTERS:
            batch.append(self._waiting.popleft())
            size += len(batch[-1]["message"])
        if not self._waiting:
            self._has_lines.clear()
        return batch

    def _put_back(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Let lines wait again, before those that came since; where that is too many the oldest go."""
        if lines:
            self._waiting = deque([*lines, *self._waiting], maxlen=_MAX_WAITING)
            self._has_lines.set()

    async def _send(self, batch: Sequence[Mapping[str, Any]]) -> list[Exception | None]:
        if batch:
            await self._pool.log(batch)
        return [None] * len(batch)
