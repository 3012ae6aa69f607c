"""Nobody reads what the agent says: a full pipe, a disk that is full, a reader that is gone. Its work goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.checkout import CHECKOUT
from support.piped import PipedAgent, full_pipe
from support.ports import ports_to_try


@pytest.fixture
def agent(api: Api, folder: Path) -> Iterator[PipedAgent]:
    """An agent with a full pipe for a console."""
    with PipedAgent(folder, api.url, "--show-flow-logs", "--log-level", "DEBUG") as agent:
        yield agent


def test_a_console_that_nobody_reads_holds_up_nothing(api: Api, agent: PipedAgent) -> None:
    agent.wait_until_up()
    runs = [agent.new_run(api, "report Running\nsay a line\nreport Success") for _ in range(10)]
    bad = agent.new_run(api, "report Running\nexit 3")
    for run in runs:
        api.wait_for_state(run, "Success")
    api.wait_for_state(bad, "Failed")
    agent.wait_until_forgotten()
    assert agent.ask("status").startswith("0 running")
    code, seconds = agent.stop()
    assert code == 0
    assert seconds < 30


def test_once_somebody_reads_everything_is_there(api: Api, agent: PipedAgent) -> None:
    agent.wait_until_up()
    run = agent.new_run(api, "report Running\nsay a line\nreport Success")
    api.wait_for_state(run, "Success")
    agent.wait_until_forgotten()
    agent.wait_for("ended: Exited with code 0")
    agent.wait_for("| a line\n")


def test_an_agent_that_cannot_start_ends_though_nobody_reads_why(api: Api, folder: Path) -> None:
    with PipedAgent(folder, api.url, "--poll-interval", "never") as agent:
        assert agent.wait() == 78


def test_a_progress_bar_costs_what_is_new_of_it(api: Api, folder: Path) -> None:
    """40 MB of carriage returns and no line feed: drawn over half a day, and still drawn."""
    bar = folder / "bar"
    folder.mkdir(exist_ok=True)
    with bar.open("wb") as file:
        for _ in range(40):
            file.write(b"\r 10% |###       | 123456/1234567 [05:12:11<18:00:00, 10.0it/s] step" * 15_000)
    with AgentProcess(folder, api.url, "--show-flow-logs") as agent:
        agent.write_python(f'if [ "$1" = -c ]; then echo 1.4.1; exit; fi\ncat {bar}\nprintf "\\r 11%% |###"\nsleep 600')
        agent.new_run(api, "")
        agent.wait_for(" 11% |###")
        agent.wait_until_up()
        status = Path(f"/proc/{agent.pid}/status").read_text()
        peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak_kib < 120 * 1024
        cpu = Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()
        assert (int(cpu[11]) + int(cpu[12])) / os.sysconf("SC_CLK_TCK") < 20


def test_a_terminal_that_is_gone_ends_the_talking_and_nothing_else(api: Api, folder: Path) -> None:
    with PipedAgent(folder, api.url) as agent:
        agent.wait_until_up()
        agent.hang_up()
        run = agent.new_run(api, "report Running\nreport Success")
        api.wait_for_state(run, "Success")
        wait_until(lambda: not agent.records(), lambda: "still there")
        agent.send(signal.SIGTERM)
        assert agent.wait() == 0


def test_the_embedded_api_answers_though_nobody_reads_what_it_says(tmp_path: Path) -> None:
    reading, writing = full_pipe()
    port = str(ports_to_try()[0])
    command = [sys.executable, "-m", "local_agent", "server", "--port", port, "--data", str(tmp_path / "server.db")]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src")}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=environment) as server:
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/stats"), lambda: "it does not answer")
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()
    os.close(reading)
    os.close(writing)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
