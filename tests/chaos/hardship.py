"""What a machine does to an agent for a moment: limits that are reached, files that vanish, no turn on the CPU."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from support.agent import AgentProcess


class Hardship:
    """Each kind comes before any comes again, in an order that follows from the seed."""

    def __init__(self, agent: AgentProcess, chance: random.Random) -> None:
        self._agent = agent
        self._chance = chance
        self._deck: list[str] = []
        self.kinds: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "few descriptors": self._few_descriptors,
            "no descriptor": self._no_descriptor,
            "exit records vanish": self._exit_records_vanish,
            "the state folder is away": self._folder_away,
            "stopped": self._stopped,
        }

    def next(self, most_seconds: float) -> str:
        """Put the agent through one, for a while, and return which."""
        if not self._deck:
            self._deck = self._chance.sample(sorted(self.kinds), k=len(self.kinds))
        kind = self._deck.pop()
        with self.kinds[kind]():
            time.sleep(self._chance.uniform(0, most_seconds))
        return kind

    def _few_descriptors(self) -> AbstractContextManager[None]:
        return self._descriptors(lambda in_use: in_use + self._chance.randint(1, 40))

    def _no_descriptor(self) -> AbstractContextManager[None]:
        return self._descriptors(lambda _: 3)

    @contextlib.contextmanager
    def _descriptors(self, limit: Callable[[int], int]) -> Iterator[None]:
        in_use = len(os.listdir(f"/proc/{self._agent.pid}/fd"))  # noqa: PTH208 - numbers, not paths
        soft, hard = resource.prlimit(self._agent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._agent.pid, resource.RLIMIT_NOFILE, (min(limit(in_use), hard), hard))
        try:
            yield
        finally:
            resource.prlimit(self._agent.pid, resource.RLIMIT_NOFILE, (soft, hard))

    @contextlib.contextmanager
    def _exit_records_vanish(self) -> Iterator[None]:
        for path in (self._agent.state_dir / "runs").glob("*.exit"):
            path.unlink(missing_ok=True)
        yield

    @contextlib.contextmanager
    def _folder_away(self) -> Iterator[None]:
        runs, away = self._agent.state_dir / "runs", self._agent.state_dir / "away"
        runs.rename(away)
        try:
            yield
        finally:
            away.rename(runs)

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        os.kill(self._agent.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._agent.pid, signal.SIGCONT)
