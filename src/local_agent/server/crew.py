"""Threads that are there for the next job: to start one takes longer than to answer a short request."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]

_SPARE_SECONDS = 10.0


class Crew:
    """Does each job at once, in a thread of its own. A thread that has done one waits a while for another."""

    def __init__(self, spare_seconds: float = _SPARE_SECONDS) -> None:
        self._spare_seconds = spare_seconds
        self._changed = threading.Condition()
        # Never more than there are threads that wait.
        self._jobs: deque[Job | None] = deque()
        self._waiting = 0

    @property
    def spare(self) -> int:
        """How many threads wait, and have no job coming."""
        return self._waiting - len(self._jobs)

    def do(self, job: Job) -> None:
        """Begin a job, which handles its own exceptions. Raise RuntimeError if no thread can be started."""
        with self._changed:
            if self.spare > 0:
                self._jobs.append(job)
                self._changed.notify()
                return
        threading.Thread(target=self._work, args=(job,), name="connection", daemon=True).start()

    def _work(self, job: Job | None) -> None:
        while job is not None:
            job()
            job = self._next()

    def _next(self) -> Job | None:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._jobs, self._spare_seconds)
            self._waiting -= 1
            return self._jobs.popleft() if self._jobs else None

    def close(self) -> None:
        """Let the threads end that wait for a job."""
        with self._changed:
            self._jobs.extend([None] * self.spare)
            self._changed.notify_all()
