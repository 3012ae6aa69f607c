"""`make demo`: three real Prefect flows, run by this checkout's agent against its embedded API.

It touches nobody's Prefect: everything has a home of its own in a temporary folder, a free port, and a label that no
other agent has. Exit code 0 only if the three end as they should: Success, Failed, Cancelled.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo_api import Api, FlowRun
from processes import DemoError, Processes, wait_for_line

_CHECKOUT = Path(__file__).resolve().parents[2]
_OUTPUTS = _CHECKOUT / "build/demo"  # what the agent and the API print; stays, to be read after the end
_COMMAND = (sys.executable, "-m", "local_agent")
_LISTENS = "local-agent server listens on "
_LONG_FLOW = "train-model"
_EXPECTED = {"load-files": "Success", "ask-supplier": "Failed", _LONG_FLOW: "Cancelled"}
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_CANCELLATION_CHECK_SECONDS = 2


@dataclass(frozen=True)
class _Demo:
    """What the steps of the demo share."""

    prefect_python: Path
    processes: Processes
    folder: Path
    name: str
    started_seconds: float

    def output_of(self, part: str) -> Path:
        """Return the file for all that a part prints."""
        return _OUTPUTS / self.name / f"{part}.log"

    def say(self, words: str) -> None:
        print(f"{time.monotonic() - self.started_seconds:6.1f} s  {words}", flush=True)


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(description="Run three real Prefect flows with this checkout's agent.")
    parser.add_argument("--prefect-python", type=Path, required=True, help="an interpreter that has prefect 1.4.1")
    parser.add_argument("--timeout", type=float, default=180.0, metavar="SECONDS", help="give up after this time")
    arguments = parser.parse_args()
    _let_signals_unwind()
    with tempfile.TemporaryDirectory(prefix="local-agent-demo-", ignore_cleanup_errors=True) as folder:
        processes = Processes(_environment(Path(folder)))
        name = f"demo-{uuid.uuid4().hex[:8]}"
        demo = _Demo(arguments.prefect_python, processes, Path(folder), name, time.monotonic())
        demo.output_of("agent").parent.mkdir(parents=True)
        try:
            runs = _run(demo, arguments.timeout)
        except DemoError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            _ignore_signals()
            processes.end()
            _remove_slice(name)
    return _conclude(demo, runs)


def _run(demo: _Demo, timeout_seconds: float) -> list[FlowRun]:
    api = _start_api(demo)
    agent = _start_agent(demo, api)
    runs = _register_flows(demo, api)
    for now in _watch(demo, api, runs, timeout_seconds):
        runs = now
        if agent.poll() is not None:
            raise DemoError(
                f"the agent has ended with exit code {agent.returncode}; {_end_of(demo.output_of('agent'))}"
            )
    return runs


def _start_api(demo: _Demo) -> Api:
    output = demo.output_of("server")
    command = [*_COMMAND, "server", "--port", "0", "--data", str(demo.folder / "server.db")]
    url = wait_for_line(demo.processes.start(command, output), output, _LISTENS, timeout_seconds=_START_SECONDS)
    demo.say(f"the embedded API listens on {url}")
    return Api(url)


def _start_agent(demo: _Demo, api: Api) -> subprocess.Popen[bytes]:
    command = [*_COMMAND, "start", "--api", api.url, "--instance", demo.name]
    command += ["--label", demo.name, "--no-hostname-label", "--python", str(demo.prefect_python)]
    command += ["--poll-interval", "0.5", "--show-flow-logs"]
    command += ["--env", f"PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL={_CANCELLATION_CHECK_SECONDS}"]
    agent = demo.processes.start(command, demo.output_of("agent"))
    first = Path("/proc/1/comm").read_text().strip()
    how = "systemd: flow runs become scopes" if _systemd_runs() else f"{first}: flow runs become plain processes"
    demo.say(f"the agent has started; PID 1 here is {how}")
    return agent


def _register_flows(demo: _Demo, api: Api) -> list[FlowRun]:
    demo.say("registering three flows with prefect 1.4.1")
    endpoint = {"PREFECT__SERVER__ENDPOINT": api.url}
    script = Path(__file__).with_name("flows.py")
    output = demo.output_of("register")
    process = demo.processes.start([demo.prefect_python, script, demo.name], output, more_environment=endpoint)
    answer = json.loads(wait_for_line(process, output, "registered: ", timeout_seconds=_START_SECONDS))
    return [FlowRun(flow, run["id"], run["name"]) for flow, run in answer.items()]


def _watch(demo: _Demo, api: Api, runs: list[FlowRun], timeout_seconds: float) -> Iterator[list[FlowRun]]:
    """Yield the flow runs as they are, again and again until all have finished.

    Tell every change of state, and cancel the long one when it is at work.
    """
    deadline = demo.started_seconds + timeout_seconds
    while not all(run.is_finished for run in runs):
        if time.monotonic() > deadline:
            states = ", ".join(f"{run.name} {run.state}" for run in runs)
            raise DemoError(f"after {timeout_seconds:g} s: {states}; {_end_of(demo.output_of('agent'))}")
        time.sleep(_LOOK_SECONDS)
        now = api.read(runs)
        for before, run in zip(runs, now, strict=True):
            if run.state != before.state:
                demo.say(f"{run.name:16} {run.state}")
            if run.flow == _LONG_FLOW and run.at_work and not before.at_work:
                demo.say(f"{run.name:16} cancelling it at the API, as a click in the UI would")
                api.cancel(run)
        runs = now
        yield runs


def _end_of(output: Path) -> str:
    return f"the end of {output.relative_to(_CHECKOUT)}:\n{output.read_text(errors='replace')[-3000:]}"


def _conclude(demo: _Demo, runs: list[FlowRun]) -> int:
    """Print the table, and return 0 if every flow run ended as it should."""
    print(f"\n{'flow run':16} {'state':10} {'seconds':>7}  where")
    for run in runs:
        print(f"{run.name:16} {run.state:10} {run.seconds:7.1f}  {run.where}")
        print(f"{'':16} log: {_log_command(demo, run)}")
    wrong = [f"{run.name} should be {_EXPECTED[run.flow]}" for run in runs if run.state != _EXPECTED[run.flow]]
    for words in wrong:
        print(f"error: {words}", file=sys.stderr)
    return 1 if wrong else 0


def _log_command(demo: _Demo, run: FlowRun) -> str:
    if _systemd_runs():
        mine = "" if os.geteuid() == 0 else "--user "
        return f"journalctl {mine}-t flow-run-{run.id}"
    return f"grep -F {run.name} {demo.output_of('agent').relative_to(_CHECKOUT)}"


def _environment(folder: Path) -> dict[str, str]:
    """Return this environment without anybody's Prefect or local-agent, and with a home of its own."""
    foreign = ("PREFECT__", "LOCAL_AGENT_", "XDG_", "NOTIFY_SOCKET", "WATCHDOG_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    runtime = {name: os.environ[name] for name in ("XDG_RUNTIME_DIR",) if name in os.environ}
    source = str(_CHECKOUT / "src")
    prefect = {"PREFECT__BACKEND": "server", "PREFECT__HOME_DIR": str(folder / "prefect")}
    return {**kept, **runtime, **prefect, "HOME": str(folder), "PYTHONPATH": source}


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def _remove_slice(name: str) -> None:
    """An empty slice stays until somebody stops it."""
    if _systemd_runs():
        mine = [] if os.geteuid() == 0 else ["--user"]
        unit = f"flowruns-{name.replace('-', chr(92) + 'x2d')}.slice"
        subprocess.run(["systemctl", *mine, "--quiet", "stop", unit], stdin=subprocess.DEVNULL, check=False)


def _let_signals_unwind() -> None:
    """A signal that ends the demo ends what it started, too. One that was ignored on entry (nohup) stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _ignore_signals() -> None:
    """Once things are being ended, impatience does not leave half of them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    print(f"\nstopped by {signal.Signals(number).name}; ending everything that was started", file=sys.stderr)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
