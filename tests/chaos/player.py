"""Stands in for the process of a flow run; outlives an API that is being restarted, as Prefect's own process does.

PLAY has one command a line: `report STATE`, `nap SECONDS`, `await FILE`, `exit CODE`, `signal NAME`, and
`first-time COMMAND...`, which is done only by the first process of a flow run. Only what an interpreter has without
its site packages.
"""

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 120
_RETRY_SECONDS = 0.2


def _report(state: str) -> None:
    given = {"type": state, "message": f"set to {state} by the player"}
    change = {"flow_run_id": os.environ["PREFECT__CONTEXT__FLOW_RUN_ID"], "version": None, "state": given}
    query = "mutation($i: set_flow_run_states_input!) { set_flow_run_states(input: $i) { states { status } } }"
    body = json.dumps({"query": query, "variables": json.dumps({"i": {"states": [change]}})})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _is_done(body):
        if time.monotonic() > deadline:
            sys.exit("the API does not answer")
        time.sleep(_RETRY_SECONDS)


def _is_done(body: str) -> bool:
    # the API itself: the agent reaches it through something that goes wrong
    url = urlsplit(os.environ["PLAY_API"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return not json.loads(connection.getresponse().read()).get("errors")
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _nap(seconds: str) -> None:
    time.sleep(float(seconds))


def _await(path: str) -> None:
    while not Path(path).exists():
        time.sleep(_RETRY_SECONDS)


def _exit(code: str) -> None:
    sys.exit(int(code))


def _signal(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[f"SIG{name}"])


def _first_time(command: str, *words: str) -> None:
    starts = Path(os.environ["PLAY_STARTS"]).read_text()
    if starts.count(os.environ["PREFECT__CONTEXT__FLOW_RUN_ID"]) == 1:
        _COMMANDS[command](*words)


_COMMANDS: dict[str, Callable[..., None]] = {
    "report": _report,
    "nap": _nap,
    "await": _await,
    "exit": _exit,
    "signal": _signal,
    "first-time": _first_time,
}


def main() -> None:
    """Note that this flow run was started, and when; then play."""
    with Path(os.environ["PLAY_STARTS"]).open("a") as starts:
        starts.write(f"{os.environ['PREFECT__CONTEXT__FLOW_RUN_ID']} {time.time()}\n")
    for line in os.environ.get("PLAY", "").splitlines():
        command, *words = line.split()
        _COMMANDS[command](*words)


if __name__ == "__main__":
    main()
