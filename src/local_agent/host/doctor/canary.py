"""The canary: a scope like a flow run's, whose process double-forks, writes to the journal and is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

from local_agent.errors import LocalAgentError
from local_agent.host.doctor.check import Finding, failure, ok, warning
from local_agent.host.reading.journal import text_of
from local_agent.limits import Limits
from local_agent.linux import procfs
from local_agent.systemd import ScopeRequest
from local_agent.systemd import journal as stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_agent.host.reading.journal import Journal
    from local_agent.systemd import ScopeManager

_SLICE = "flowruns.slice"
_SONG = "the canary sings"
_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05
# waits at its gate until it is in the scope, then leaves a daemon in a session of its own, tells its pid, and sings
_SCRIPT = f"""
read -r gate || exit
(setsid sh -c 'echo $$ >&3; exec 3>&- sleep 600' &)
exec 3>&-
echo "{_SONG}" >&2
exec sleep 600
"""


class _SilentError(Exception):
    """Something did not happen in time."""


async def check_canary(manager: ScopeManager, journal: Journal, *, listens: bool = True) -> Finding:
    """Start one as this user, in the manager of whom it would be, and return what came of it. Nothing is left behind.

    Without `listens` nobody looks whether the journal heard it: a user may not read every journal.
    """
    name = f"local-agent-canary-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as ends:
        try:
            process, told = _spawn(name, ends)
            await _enclose(manager, f"{name}.scope", process.pid)
            assert process.stdin is not None
            process.stdin.write(b"open\n")
            process.stdin.close()
            daemon = await asyncio.to_thread(_read_pid, told)
            await _until(lambda: f"{name}.scope" in procfs.cgroup_of(daemon), "its daemon is not in its cgroup")
            if listens:
                await _until(lambda: _was_heard(journal, name), "the journal has not what it wrote")
            await manager.stop(f"{name}.scope")
            await _until(lambda: procfs.identity_of(daemon) is None, "its daemon outlived it")
        except (LocalAgentError, OSError, _SilentError) as error:
            return failure("canary", f"a scope was tried, and failed: {error}", _fix(str(error)))
    heard = "wrote to the journal" if listens else "wrote to the journal, which this user may not read,"
    return ok("canary", f"a scope double-forked, {heard} and was stopped with all that it had started")


def _fix(complaint: str) -> str:
    own = "" if os.geteuid() == 0 else "--user "
    if "masked" in complaint:
        return f"systemctl {own}unmask {_SLICE}"
    return f"systemctl {own}status dbus; journalctl {own}-b -n 50"


def not_tried() -> Finding:
    """What is said where only root could try."""
    return warning(
        "canary", "not tried: only root can make a scope of the system", "run it as root: local-agent doctor"
    )


def _spawn(name: str, ends: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], int]:
    """Start it at its gate; return it, and where the daemon tells its pid. Its end is seen to when the context ends."""
    output = ends.enter_context(stream.open_stream(name))
    told, telling = os.pipe2(os.O_CLOEXEC)
    ends.callback(os.close, told)
    script = ["sh", "-c", _SCRIPT]
    process = subprocess.Popen(
        ["sh", "-c", f'exec 3>&{telling} && exec "$@"', "sh", *script],
        stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=[telling], start_new_session=True,
    )  # fmt: skip
    os.close(telling)
    ends.callback(_end, process)
    return process, told


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with process, contextlib.suppress(OSError):
        process.wait()


async def _enclose(manager: ScopeManager, unit: str, pid: int) -> None:
    description = "local-agent doctor tries a scope"
    await manager.start_scope(ScopeRequest(unit, _SLICE, pid, description, "", Limits(), stop_seconds=5.0))
    if unit not in procfs.cgroup_of(pid):
        raise _SilentError("its process was not moved into it")


def _read_pid(told: int) -> int:
    text = os.read(told, 64).decode().strip()
    if not text.isdigit():
        raise _SilentError("its daemon did not start")
    return int(text)


def _was_heard(journal: Journal, identifier: str) -> bool:
    entries = journal.entries([(f"SYSLOG_IDENTIFIER={identifier}", f"_UID={os.geteuid()}")], ["--boot"], ("MESSAGE",))
    return any(text_of(entry, "MESSAGE") == _SONG for entry in entries)


async def _until(condition: Callable[[], bool], complaint: str) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise _SilentError(complaint)
        await asyncio.sleep(_LOOK_SECONDS)
