"""Run inside a machine: fills it with scopes of flow runs, then tells what the first output of commands costs.

    many.py fill 500
    many.py cost 3 ps top    as JSON: for each command and for `bare`, an interpreter that imports click, CPU seconds

CPU time and not time, because that is what a command costs on a machine that does something else, too.
"""

import asyncio
import json
import os
import pty
import resource
import statistics
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from local_agent.launchers.handle import ProcessHandle
from local_agent.limits import Limits
from local_agent.linux.procfs import boot_id, identity_of
from local_agent.model import Record, Step
from local_agent.store.records import Store
from local_agent.systemd import ScopeRequest
from local_agent.systemd.manager import DBusScopeManager

_BUS = "unix:path=/run/dbus/system_bus_socket"
_STATE = Path("/var/lib/local-agent/prod1")
_AT_ONCE = 8
# what tells that the first output is there, and the key that ends a command
_OUTPUTS = {"bare": (b"ready", b""), "ps": (b"ID", b""), "top": (b"\x1b[H", b"q"), "logs": (b"Started", b"")}


async def _fill(count: int) -> None:
    store, manager, gate = Store(_STATE), DBusScopeManager(_BUS), asyncio.Semaphore(_AT_ONCE)
    store.open()

    async def one(number: int) -> None:
        async with gate:
            await _start(store, manager, number)

    await asyncio.gather(*(one(number) for number in range(count)))
    await manager.close()


async def _start(store: Store, manager: DBusScopeManager, number: int) -> None:
    run, now = str(uuid.uuid4()), datetime.now(UTC)
    pid = _spawn()
    unit, about = f"flow-run-{run}.scope", f"Flow run run-{number} of nightly-load"
    await manager.start_scope(ScopeRequest(unit, "flowruns-prod1.slice", pid, about, "", Limits(), 5.0))
    handle = ProcessHandle(identity_of(pid), unit).as_json()
    step = Step.RUNNING
    store.save(Record(run, f"run-{number}", "nightly-load", "n" * 32, step, boot_id(), now, now, "scope", handle))


def _spawn() -> int:
    null = subprocess.DEVNULL
    return subprocess.Popen(["sleep", "infinity"], stdin=null, stdout=null, stderr=null, start_new_session=True).pid


def _cost(times: int, names: list[str]) -> dict[str, float]:
    run = next((_STATE / "runs").glob("*.json")).name.partition(".")[0]
    bare = [sys.executable, "-c", "import click; print('ready')"]
    commands = {"bare": bare, **{name: ["local-agent", name] for name in names}}
    if "logs" in names:
        commands["logs"].append(run)
    return {
        name: statistics.median(_cpu_seconds(command, *_OUTPUTS[name]) for _ in range(times))
        for name, command in commands.items()
    }


def _cpu_seconds(command: list[str], output: bytes, key: bytes) -> float:
    """Run a command in a terminal of 120 columns, until it ends."""
    ours, theirs = pty.openpty()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ):
        os.close(theirs)
        shown = b""
        while output not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, key)
        _read_to_its_end(ours)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.close(ours)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _read_to_its_end(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # nobody has the other side any more
        return


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(_fill(int(sys.argv[2])))
        os._exit(0)  # the processes go on
    print(json.dumps(_cost(int(sys.argv[2]), sys.argv[3:])))
