"""Which settings the running agent uses, for whoever asks at its control socket, and which were changed since.

A file may be changed and nobody may have said so to the agent; a setting may be one that only a restart applies. So
it reads its settings anew when it is asked, and compares.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from local_agent.aio.threads import Workers
from local_agent.errors import ConfigError, LocalAgentError
from local_agent.settings.reload import reload
from local_agent.settings.show import as_json, as_lines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from local_agent.settings import Settings

FORMAT = 1
_READ_SECONDS = 0.7  # who asks waits no longer than a second; a disk that hangs is told of


class InForce:
    """Tells what holds. `read_again` reads the settings as a start of this agent would; `close` when it ends."""

    def __init__(self, settings: Callable[[], Settings], read_again: Callable[[], Settings]) -> None:
        self._settings = settings
        self._read_again = read_again
        self._reader = Workers("settings", 1)
        self._reading: asyncio.Future[Settings] | None = None

    def close(self) -> None:
        """Let its thread end, and wait for nothing that it reads."""
        if self._reading is not None:
            self._reading.cancel()
        self._reader.close()

    def commands(self) -> Mapping[str, Callable[[], Awaitable[str]]]:
        """Return what the control socket offers."""
        return {"settings": self._tell}

    async def _tell(self) -> str:
        settings = self._settings()
        told = {"format": FORMAT, **as_json(settings), "lines": [*as_lines(settings)], "waiting": await self._waiting()}
        return json.dumps(told)

    async def _waiting(self) -> dict[str, Any]:
        """Return the keys that a reload would apply, those that only a restart would, and why neither can."""
        try:
            async with asyncio.timeout(_READ_SECONDS):
                new = await asyncio.shield(self._read())
        except LocalAgentError as error:
            problems = error.problems if isinstance(error, ConfigError) else ()
            return _words(problem="; ".join([error.message, *problems]))
        except TimeoutError:
            return _words(problem="its files cannot be read in time")
        except OSError as error:
            return _words(problem=str(error))
        outcome = reload(self._settings(), new)
        return _words(outcome.changed, outcome.needs_restart)

    def _read(self) -> asyncio.Future[Settings]:
        """Read once at a time: of a disk that hangs no second thread and no queue comes."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._reader.run(self._read_again))
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._reading


def _words(changed: tuple[str, ...] = (), needs_restart: tuple[str, ...] = (), problem: str = "") -> dict[str, Any]:
    return {"reload": [*changed], "restart": [*needs_restart], "problem": problem}
