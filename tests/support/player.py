"""Stands in for the process of a flow run, and does what PLAY in its environment says, one command a line.

    report Running          set the flow run's state at the API, as Prefect's own process does
    say hello               print a line
    env NAME                print a variable of its environment
    touch FILE              make a file, with the pid in it
    await FILE              wait until there is a file
    ignore INT TERM         ignore signals
    daemon FILE             leave a process of a session of its own behind, its pid in FILE
    sibling FILE            leave a process of the same group behind, its pid in FILE; it ignores what we ignore
    signal KILL             send a signal to itself
    exit 3                  end

Only what an interpreter has without its site packages: started with -S -E -s it is up in 25 ms.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_SECONDS = 0.02


def _report(state: str, *message: str) -> None:
    import http.client
    from urllib.parse import urlsplit

    given = {"type": state, "message": " ".join(message) or f"set to {state} by the player"}
    change = {"flow_run_id": os.environ["PREFECT__CONTEXT__FLOW_RUN_ID"], "version": None, "state": given}
    query = "mutation($i: set_flow_run_states_input!) { set_flow_run_states(input: $i) { states { status } } }"
    body = json.dumps({"query": query, "variables": json.dumps({"i": {"states": [change]}})})
    # the API itself, even where the agent reaches it through something that goes wrong
    url = urlsplit(os.environ.get("PLAY_API") or os.environ["PREFECT__CLOUD__API"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    if answer.get("errors"):
        sys.exit(f"the API says {answer['errors']}")


def _say(*words: str) -> None:
    print(" ".join(words), flush=True)


def _env(name: str) -> None:
    print(f"{name}={os.environ.get(name)}", flush=True)


def _touch(path: str) -> None:
    new = Path(f"{path}.new")
    new.write_text(str(os.getpid()))
    new.rename(path)


def _await(path: str) -> None:
    while not Path(path).exists():
        time.sleep(_LOOK_SECONDS)


def _ignore(*names: str) -> None:
    for name in names:
        signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_IGN)


def _daemon(path: str) -> None:
    _leave_behind(path, os.setsid)


def _sibling(path: str) -> None:
    _leave_behind(path, lambda: None)


def _leave_behind(path: str, first: Callable[[], None]) -> None:
    if os.fork() == 0:
        first()
        if os.fork() == 0:
            _touch(path)
            time.sleep(3600)
        os._exit(0)
    os.wait()
    _await(path)


def _signal(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[f"SIG{name}"])


def _exit(code: str) -> None:
    sys.exit(int(code))


_COMMANDS: dict[str, Callable[..., None]] = {
    "report": _report,
    "say": _say,
    "env": _env,
    "touch": _touch,
    "await": _await,
    "ignore": _ignore,
    "daemon": _daemon,
    "sibling": _sibling,
    "signal": _signal,
    "exit": _exit,
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
