"""Where flow runs run, as the API shows it: told beside everything else, and taken away before a run waits again.

The API cancels a waiting run without an infrastructure_pid at once; with one it waits for the process of that name,
which nobody has for a run that was given back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from local_agent.aio.clock import Backoff
from local_agent.backends.prefect3.answers import is_missing
from local_agent.errors import ApiRefusedError, CredentialError, UnavailableError

if TYPE_CHECKING:
    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect3.pool import Pool

_MAX_WAITING = 10_000


class Whereabouts:
    """Tells where runs run and by whom, with labels, where the API takes any."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._labels = {
            "prefect.worker.name": pool.worker,
            "prefect.worker.type": "systemd",
            "prefect.work-pool.name": pool.name,
        }
        self._takes_labels = True
        self._waiting: dict[str, str] = {}
        self._has_some = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def add(self, run_id: str, where: str) -> None:
        """Queue the news that a run runs. Of too many the oldest are dropped."""
        self._waiting[run_id] = where
        if len(self._waiting) > _MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        self._has_some.set()

    def forget(self, run_id: str) -> None:
        """Tell nothing of a run any more: it has ended."""
        self._waiting.pop(run_id, None)

    async def take_away(self, run_id: str) -> None:
        """Take back what the API knows of a run, before it waits again. Raise as `Api` does."""
        self._waiting.pop(run_id, None)
        async with self._one_at_a_time:  # what is under way lands before
            with contextlib.suppress(ApiRefusedError):
                await self._pool.say_where(run_id, "")

    async def tell_for_ever(self) -> None:
        """Tell what is queued, until cancelled."""
        backoff = Backoff(0.5, 10)
        while True:
            await self._has_some.wait()
            try:
                await self._tell_all()
            except (UnavailableError, CredentialError):
                await self._clock.sleep(backoff.next_seconds())
            else:
                backoff.reset()

    async def _tell_all(self) -> None:
        while self._waiting:
            run_id = next(iter(self._waiting))
            async with self._one_at_a_time:
                where = self._waiting.get(run_id)
                if where is not None:
                    await self._tell(run_id, where)
                    self._waiting.pop(run_id, None)
        self._has_some.clear()

    async def _tell(self, run_id: str, where: str) -> None:
        """Tell where one runs. A run that is refused is none of ours any more."""
        with contextlib.suppress(ApiRefusedError):
            await self._pool.say_where(run_id, where)
        if self._takes_labels:
            try:
                await self._pool.label(run_id, {**self._labels, "local-agent.where": where})
            except ApiRefusedError as error:
                self._takes_labels = not is_missing(error)
