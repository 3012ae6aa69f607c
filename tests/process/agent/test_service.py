"""Health, poke and reload of a running agent."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import Signals
from typing import Any

from support.agent import SAYS_VERSION, AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.faults import FaultyProxy

_SUCCEEDS = "report Running\nreport Success"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _get(port: int, path: str) -> tuple[int, Mapping[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_health_tells_the_truth(api: Api, folder: Path) -> None:
    port = _free_port()
    address = ("--agent-address", f"http://127.0.0.1:{port}", "--unhealthy-after", "1")
    with FaultyProxy(api.url) as proxy, AgentProcess(folder, proxy.url, *address) as agent:
        agent.wait_for("Registered at")
        # a busy machine may take longer than --unhealthy-after from there to the first poll's answer
        wait_until(lambda: _get(port, "/api/health") == (200, {"status": "ok"}), lambda: f"{_get(port, '/api/health')}")
        assert _get(port, "/nonsense")[0] == 404
        proxy.answer(503)
        wait_until(lambda: _get(port, "/api/health")[0] == 503, lambda: f"it says {_get(port, '/api/health')}")
        body = _get(port, "/api/health")[1]
        assert body["status"] == "failing"
        assert "answers HTTP 503" in body["problem"]
        assert body["for_seconds"] >= 1
        proxy.clear()
        wait_until(lambda: _get(port, "/api/health")[0] == 200, lambda: "it did not recover")


def test_an_address_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        agent = AgentProcess(folder, "http://127.0.0.1:9", "--agent-address", address)
        with agent:
            assert agent.wait() == 78
            error, hint = agent.said.splitlines()
            assert error.startswith("error: cannot listen on ")
            assert address in error
            assert "choose another --agent-address" in hint


def test_a_poke_makes_it_poll_at_once(api: Api, folder: Path) -> None:
    port = _free_port()
    ways: Mapping[str, Callable[[AgentProcess], object]] = {
        "http": lambda _: _get(port, "/api/poke"),
        "command": lambda agent: _command("poke", agent),
        "signal": lambda agent: agent.send(Signals.SIGUSR1),
    }
    with AgentProcess(folder, api.url, "--poll-interval", "300", "--agent-address", f"127.0.0.1:{port}") as agent:
        agent.wait_for("Registered at")
        for poke in ways.values():
            _let_its_pauses_grow(api, agent)
            run = agent.new_run(api, _SUCCEEDS)
            poke(agent)
            api.wait_for_state(run, "Success", seconds=40)


def _let_its_pauses_grow(api: Api, agent: AgentProcess) -> None:
    """Each poll that finds nothing doubles the pause after it: ten of them make it longer than a test waits."""
    for _ in range(10):
        _wake(api, agent)


def _wake(api: Api, agent: AgentProcess) -> None:
    polls = agent.count_polls(api)
    agent.send(Signals.SIGUSR1)
    wait_until(lambda: agent.count_polls(api) > polls, lambda: "the signal woke nobody")


def _command(name: str, agent: AgentProcess) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local_agent", name, "--state-dir", str(agent.state_dir)]
    return subprocess.run(command, env=agent.environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_poke_of_no_agent_says_so(folder: Path) -> None:
    agent = AgentProcess(folder, "http://127.0.0.1:9")
    agent.state_dir.mkdir()
    result = _command("poke", agent)
    assert result.returncode == 69
    assert result.stderr.splitlines() == [
        f"error: no agent answers at {agent.state_dir}: No such file or directory",
        "hint: is it running? name it with --instance",
    ]


def test_a_reload_takes_on_new_settings_and_touches_no_run(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    agent.write_config("limit = 1\n")
    with agent:
        first = agent.new_run(api, f"report Running\nawait {folder}/go\nreport Success")
        api.wait_for_state(first, "Running")
        second = agent.new_run(api, _SUCCEEDS)
        agent.wait_for("all 1 places are taken")

        agent.write_config("limit = 2\n")
        result = _command("reload", agent)
        assert (result.returncode, result.stdout) == (0, "limit\n")
        api.wait_for_state(second, "Success")
        agent.wait_for("Settings read again: limit")
        assert api.state(first) == "Running"
        (folder / "go").touch()
        api.wait_for_state(first, "Success")
        assert agent.starts() == [first, second]


def test_a_broken_file_is_said_and_the_old_settings_stay(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    agent.write_config("limit = 7\n")
    with agent:
        agent.wait_for("Registered at")
        agent.write_config("limt = 9\n")
        agent.send(Signals.SIGHUP)
        agent.wait_for("ERROR - ")
        agent.wait_for("The old settings stay: ")
        assert "limt" in agent.said
        result = _command("reload", agent)
        assert result.returncode != 0
        assert "limit" in result.stderr, "what was meant"
        assert "Traceback" not in result.stderr + agent.said
        assert agent.ask("status").startswith("0 running, 7 slots free")


_NOHUP = ("sh", "-c", 'trap "" INT QUIT HUP PIPE; "$@" & wait $!', "sh")
_TELLS_SIGNALS = 'grep -E "^Sig(Ign|Blk)" /proc/self/status >"$HOME/told.new"; mv "$HOME/told.new" "$HOME/told"'


def test_an_agent_that_was_started_in_the_background_with_nohup(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url, wrapper=_NOHUP, python=f"{SAYS_VERSION}\n{_TELLS_SIGNALS}")
    with agent:
        agent.new_run(api, "")
        told = folder / "told"
        wait_until(told.exists, lambda: agent.said)
        masks = {line.split()[0]: int(line.split()[1], 16) for line in told.read_text().splitlines()}
        assert masks["SigBlk:"] == 0
        for name in ("INT", "QUIT", "HUP", "TERM"):
            assert not masks["SigIgn:"] >> Signals[f"SIG{name}"] - 1 & 1, f"its flow runs ignore SIG{name}"
        assert masks["SigIgn:"] >> Signals.SIGPIPE - 1 & 1, "a journald that is gone ends its flow runs"
        agent.wait_until_forgotten()
        assert agent.stop(Signals.SIGINT)[0] == 0, "and it hears its own"


def test_an_agent_whose_starter_ignores_the_ends_of_children(api: Api, folder: Path) -> None:
    wrapper = ("sh", "-c", 'env --ignore-signal=CHLD "$@" & wait $!', "sh")
    agent = AgentProcess(folder, api.url, wrapper=wrapper)
    with agent:
        runs = [agent.new_run(api, play) for play in ("report Running\nreport Success", "exit 3")]
        api.wait_for_state(runs[0], "Success")
        api.wait_for_state(runs[1], "Failed")
        agent.wait_until_forgotten()
        assert api.states(runs[1])[-1]["message"].startswith("Exited with code 3 before the flow started")
        assert "Traceback" not in agent.said
