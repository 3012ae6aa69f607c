"""Stands in for the process of a flow run, and does what PLAY in its environment says, one command a line.

    report Running          set the flow run's state at the API, as Prefect's own process does; it waits for one
                            that is being restarted
    say hello               print a line
    env NAME                print a variable of its environment
    touch FILE              make a file, with the pid in it
    await FILE              wait until there is a file
    nap 1.5                 wait so many seconds
    first-time nap 1.5      do something only where this is the first process of the flow run
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

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 120
_RETRY_SECONDS = 0.2


def _report(state: str, *message: str) -> None:
    given = {"type": state, "message": " ".join(message) or f"set to {state} by the player"}
    change = {"flow_run_id": os.environ["PREFECT__CONTEXT__FLOW_RUN_ID"], "version": None, "state": given}
    query = "mutation($i: set_flow_run_states_input!) { set_flow_run_states(input: $i) { states { status } } }"
    body = json.dumps({"query": query, "variables": json.dumps({"i": {"states": [change]}})})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (answer := _answer(body)) is None:
        if time.monotonic() > deadline:
            sys.exit("the API does not answer")
        time.sleep(_RETRY_SECONDS)
    if answer.get("errors"):
        sys.exit(f"the API says {answer['errors']}")


def _answer(body: str) -> dict[str, object] | None:
    import http.client
    from urllib.parse import urlsplit

    # the API itself, even where the agent reaches it through something that goes wrong
    url = urlsplit(os.environ.get("PLAY_API") or os.environ["PREFECT__CLOUD__API"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        key = os.environ.get("PREFECT__CLOUD__API_KEY")
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("POST", "/", body, {"Content-Type": "application/json", **authorization})
        answer: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer


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


def _nap(seconds: str) -> None:
    time.sleep(float(seconds))


def _first_time(command: str, *words: str) -> None:
    starts = Path(os.environ["PLAY_STARTS"]).read_text()
    if starts.count(os.environ["PREFECT__CONTEXT__FLOW_RUN_ID"]) == 1:
        _COMMANDS[command](*words)


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
    "nap": _nap,
    "first-time": _first_time,
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
