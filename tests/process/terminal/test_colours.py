"""An agent in the foreground of a terminal: each flow run's lines have a colour of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until


@contextmanager
def _in_a_terminal(agent: AgentProcess, shown: list[str]) -> Iterator[None]:
    """Run an agent whose standard output is a terminal; what that shows is appended at the end."""
    ours, its = os.openpty()
    try:
        process = subprocess.Popen(agent.command, env=agent.environment, stdin=its, stdout=its, stderr=its)
    finally:
        os.close(its)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)
        shown.append(_read_all(ours))
        os.close(ours)


def _read_all(descriptor: int) -> str:
    """Read what a terminal holds; its end is an error when nobody has the other side any more (pty(7))."""
    read = b""
    try:
        while chunk := os.read(descriptor, 65536):
            read += chunk
    except OSError:
        pass
    return read.decode()


def test_each_flow_run_has_its_colour(tmp_path: Path) -> None:
    shown: list[str] = []
    with Api(tmp_path / "server.db") as api:
        agent = AgentProcess(tmp_path / "agent", api.url, "--show-flow-logs")
        with _in_a_terminal(agent, shown):
            flow = agent.new_flow(api, "report Running\nsay a line\nreport Success")
            for name in ("one", "two"):
                run = api.create_flow_run(flow, name=name)
                api.wait_for_state(run, "Success")
            wait_until(lambda: not agent.records(), lambda: f"remembered: {agent.records()}")
    (text,) = shown
    for colour, name in ((36, "one"), (33, "two")):
        assert f"\x1b[{colour}m{name} | \x1b[0ma line\x1b[K\r\n" in text, "over whatever stood there before"
        assert f"Flow run {name} (" in text, "what the agent itself says about it"
