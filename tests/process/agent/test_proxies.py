"""What stands before an API: Debian's nginx, which takes only small requests and asks for a password."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from support.agent import AgentProcess
from support.api import Api, wait_until
from support.faults import FaultyProxy
from support.ports import ports_to_try
from support.unpacked import nginx

_PATHS = "\n".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
_CONFIG = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ }}
http {{
    access_log off;
    {paths}
    server {{
        listen 127.0.0.1:{port};
        {more}
        location / {{ proxy_pass {upstream}; }}
    }}
}}
"""
_RUNS = 40


@contextmanager
def _nginx(folder: Path, upstream: str, more: str) -> Iterator[str]:
    """Run nginx before an API, and give its URL."""
    folder.mkdir()
    (port,) = ports_to_try()[:1]
    (folder / "nginx.conf").write_text(_CONFIG.format(paths=_PATHS, port=port, more=more, upstream=upstream))
    command = [str(nginx()), "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), lambda: (folder / "out").read_text())
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        build_opener(ProxyHandler({})).open(Request(url, method="HEAD"), timeout=10).close()
    except OSError as error:
        return hasattr(error, "code")  # any HTTP answer will do
    return True


def test_all_runs_start_behind_a_proxy_that_takes_only_small_requests(api: Api, folder: Path) -> None:
    with (
        _nginx(folder.with_name("nginx"), api.url, "client_max_body_size 4k;") as url,
        AgentProcess(folder, url, environ={"PLAY_API": api.url}) as agent,
    ):
        agent.wait_for("Registered at")
        flow = agent.new_flow(api, "report Running\nsleep 1\nexit 3")
        runs = api.create_flow_runs(flow, _RUNS)
        for run in runs:
            api.wait_for_state(run, "Failed")
        assert sorted(agent.starts()) == sorted(runs), "each once"
        agent.wait_until_forgotten()


def test_user_and_password_stand_in_the_url_and_nowhere_else(api: Api, folder: Path) -> None:
    users = folder.with_name("users")
    users.write_text("flows:{PLAIN}s3cret\n")
    with _nginx(folder.with_name("nginx"), api.url, f'auth_basic "prefect"; auth_basic_user_file {users};') as url:
        private = url.replace("http://", "http://flows:s3cret@")
        with AgentProcess(folder, private, environ={"PLAY_API": api.url}) as agent:
            agent.wait_for("Registered at")
            run = agent.new_run(api, "report Running\nreport Success")
            api.wait_for_state(run, "Success")
            said = agent.ask("status") + agent.ask("inspect")
            agent.wait_until_forgotten()
        assert "s3cret" not in agent.console + said
        assert "at http://***@127.0.0.1" in agent.console
        with AgentProcess(folder.with_name("stranger"), url) as agent:
            assert agent.wait() == 77
            assert "asks for a user and a password" in agent.console


def test_claims_that_do_not_get_through_are_said(api: Api, folder: Path) -> None:
    with FaultyProxy(api.url) as proxy, AgentProcess(folder, proxy.url, environ={"PLAY_API": api.url}) as agent:
        agent.wait_for("Registered at")
        proxy.answer(413, "set_flow_run_states", body="<html>", kind="text/html")
        run = agent.new_run(api, "report Running\nreport Success")
        agent.wait_for("The queue answers, but claims and ends do not get through: ")
        assert "takes no request as large as this (HTTP 413)" in agent.ask("status")
        assert api.state(run) == "Scheduled"
