"""Who else claims flow runs of the same pool: then a claim is read back before the launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.aio.batching import Batcher
from local_agent.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect3.pool import Pool

_REMEMBERED_SECONDS = 600.0
_MAX_AT_ONCE = 1000


class Rivals:
    """`looks` is the setting claim_check: always, never, or auto, which asks the API for the other workers."""

    def __init__(self, pool: Pool, clock: Clock, looks: str) -> None:
        self._pool = pool
        self._clock = clock
        self._looks = looks
        self._until = float("-inf")
        self._asked: Batcher[None, bool] = Batcher(
            self._ask, most=_MAX_AT_ONCE, first=_MAX_AT_ONCE, monotonic=clock.monotonic
        )

    async def may_have_claimed(self) -> bool:
        """Tell whether another may have claimed what was just claimed here. To be asked when the claim was answered.

        Whoever claims was registered before that, so whoever came before our claim is seen after it.
        """
        if self._looks != "auto":
            return self._looks == "always"
        return self._clock.monotonic() < self._until or await self._asked.ask(None)

    def seen(self) -> None:
        """Note that somebody else has claimed a run, by whatever name."""
        self._until = self._clock.monotonic() + _REMEMBERED_SECONDS

    async def _ask(self, asked: Sequence[None]) -> Sequence[bool]:
        try:
            others = await self._pool.other_workers()
        except LocalAgentError:
            return [True] * len(asked)
        if others:
            self.seen()
        return [bool(others)] * len(asked)
