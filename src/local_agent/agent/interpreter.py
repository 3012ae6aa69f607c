"""Whether the interpreter that runs flow runs has the prefect that they need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.errors import LocalAgentError
from local_agent.linux.domain import started_apart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from local_agent.aio.clock import Clock
    from local_agent.aio.threads import Workers
    from local_agent.backends import Needs
    from local_agent.events import EventLog
    from local_agent.settings import Settings

_AGAIN_SECONDS = 30.0
_DOUBT_SECONDS = 5.0
_TIMEOUT_SECONDS = 30.0
_MAX_BYTES = 4096
_AT_A_GATE = 'read -r gate && exec "$@" </dev/null'
_NOT_RUN = (126, 127)  # what a shell says of a program that it cannot start (POSIX)
# the version from the metadata: importing prefect itself takes a second of CPU
_ASK = "import importlib.metadata as m; print(m.version('prefect'))"


# given the pid of a process at its gate, puts it into a scope of its own for the length of the context
Enclosed = Callable[[int], AbstractAsyncContextManager[None]]


class Interpreter:
    """Asks the interpreter once, again every half minute for as long as it is not fit, and again when in doubt.

    Where there are scopes it is asked in one, within limits: flows may be able to write what it imports, and would
    otherwise have it run something in the agent's own cgroup, by killing the agent.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        needs: Needs,
        workers: Workers,
        clock: Clock,
        log: EventLog,
        enclosed: Enclosed | None = None,
    ) -> None:
        self._settings = settings
        self._needs = needs
        self._workers = workers
        self._clock = clock
        self._log = log
        self._enclosed = enclosed
        self._asked: tuple[Path, float] | None = None
        self._reason = ""
        self._in_doubt = False
        self._one_at_a_time = asyncio.Lock()

    def doubt(self) -> None:
        """Ask again before the next flow run is taken: one has just ended as if there were no prefect any more."""
        self._in_doubt = True

    async def reason_against(self) -> str:
        """Return why no flow run can be started with it, "" where they can."""
        async with self._one_at_a_time:
            return await self._reason_against()

    async def _reason_against(self) -> str:
        python, now = self._settings().python, self._clock.monotonic()
        if not self._is_to_ask(python, now):
            return self._reason
        self._in_doubt = False
        reason = await self._ask(python)
        self._say_change(python, reason)
        self._asked, self._reason = (python, now), reason
        return reason

    async def _ask(self, python: Path) -> str:
        if self._enclosed is None:
            return await self._workers.run(lambda: ask(python, self._needs))
        with _started(["/bin/sh", "-c", _AT_A_GATE, "sh", str(python), "-c", _ASK], subprocess.PIPE) as process:
            try:
                async with self._enclosed(process.pid):
                    assert process.stdin is not None
                    process.stdin.write(b"open\n")
                    process.stdin.close()
                    return await self._workers.run(
                        lambda: _judged(python, self._needs, lambda: _answer(process, _TIMEOUT_SECONDS))
                    )
            except LocalAgentError as error:
                return f"{python} cannot be asked: {error.message}"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _is_to_ask(self, python: Path, now: float) -> bool:
        asked_python, asked_at = self._asked or (None, now)
        if asked_python != python:
            return True
        if self._reason:
            return now - asked_at >= _AGAIN_SECONDS
        return self._in_doubt and now - asked_at >= _DOUBT_SECONDS

    def _say_change(self, python: Path, reason: str) -> None:
        if reason and reason != self._reason:
            self._log.say(events.NO_PREFECT, reason=reason)
        elif not reason and self._reason:
            self._log.say(events.PREFECT_FOUND, python=python)


def ask(python: Path, needs: Needs) -> str:
    """Given an interpreter and what flow runs need, return why it cannot run them, "" where it can."""
    return _judged(python, needs, lambda: run_bounded([str(python), "-c", _ASK], _TIMEOUT_SECONDS))


def unfit(python: Path, version: str, needs: Needs) -> str:
    """Given the version of prefect that an interpreter has, "" for none, return why it cannot run flow runs, or ""."""
    if not version:
        return f"{python} has no prefect"
    why = needs.why_not(version)
    return f"{python} has prefect {version}; {why}" if why else ""


def _judged(python: Path, needs: Needs, ask: Callable[[], tuple[int, str]]) -> str:
    try:
        code, answer = ask()
    except (OSError, TimeoutError) as error:
        return f"{python} does not run: {error}"
    if code in _NOT_RUN:
        return f"{python} does not run"
    version = answer.strip() if code == 0 else ""
    reason = unfit(python, version, needs)
    if not version:
        return f"{reason}; set `python` to one that has {needs.wanted}: `local-agent doctor` tells how"
    return reason


def run_bounded(words: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run a program that may be anybody's; return its exit code and the first bytes that it prints.

    Raise OSError where it cannot be started, TimeoutError where it has not ended in time; what it has started in its
    group has ended then. It stays in this session: what is in others is a flow run's, to whoever reaps as process 1.
    """
    with _started(words, subprocess.DEVNULL) as process:
        return _answer(process, seconds)


def _started(words: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0)

    return started_apart(start)  # a flow run may have written what it imports


def _answer(process: subprocess.Popen[bytes], seconds: float) -> tuple[int, str]:
    until = time.monotonic() + seconds
    try:
        assert process.stdout is not None
        answer = _first_bytes(process.stdout.fileno(), until, _MAX_BYTES)
        process.stdout.close()  # whoever prints on ends by that
        code = process.wait(max(0.0, until - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        raise TimeoutError(f"it did not end within {seconds:.0f} s") from error
    return code, answer.decode(errors="replace")


def _first_bytes(descriptor: int, until: float, most_bytes: int) -> bytes:
    """Return what comes until the end or the bound. Raise TimeoutError where the end does not come in time."""
    answer = b""
    while len(answer) < most_bytes:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise TimeoutError
        chunk = os.read(descriptor, most_bytes)
        if not chunk:
            break
        answer += chunk
    return answer[:most_bytes]
