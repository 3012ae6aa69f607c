"""/metrics of a running agent, scraped by Debian's Prometheus; the alert rules and the dashboard that use it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.checkout import CHECKOUT
from support.unpacked import prometheus as binaries

pytestmark = pytest.mark.timeout(300)

_MONITORING = CHECKOUT / "packaging/monitoring"
_NAME = re.compile(r"\blocal_agent_[a-z_]+")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _samples(page: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def _families(page: str) -> set[str]:
    """Return the names that a query can use."""
    names = set(_NAME.findall(page))
    declared = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
    return names | {name for name, _ in declared}


@contextmanager
def _prometheus(folder: Path, target: int) -> Iterator[int]:
    """Run a Prometheus that scrapes one agent every second, and return its own port."""
    folder.mkdir()
    port = _free_port()
    job = {"job_name": "local-agent", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = folder / "prometheus.yml"  # JSON is YAML
    config.write_text(json.dumps({"scrape_configs": [job], "rule_files": [str(_MONITORING / "alerts.yml")]}))
    command = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [binaries() / "prometheus", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _queried(port: int, query: str) -> list[dict[str, Any]]:
    try:
        status, body = _get(port, f"/api/v1/query?query={quote(query)}")
    except OSError:
        return []  # it is not up yet
    if status != http.HTTPStatus.OK:
        return []
    result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return result


def test_a_real_prometheus_scrapes_what_happened(api: Api, tmp_path: Path) -> None:
    port = _free_port()
    with AgentProcess(tmp_path / "agent", api.url, "--agent-address", f"127.0.0.1:{port}", "--limit", "5") as agent:
        agent.wait_for("Registered at")
        for play in ("report Running\nreport Success", "report Running\nsignal KILL"):
            api.wait_for_state(agent.new_run(api, play), "Success" if "Success" in play else "Failed")
        agent.wait_until_forgotten()
        page = _get(port, "/metrics")[1]
        samples = _samples(page)
        assert samples['local_agent_claims_total{outcome="ours"}'] == 2
        assert samples['local_agent_ends_total{cause="exited"}'] == 1
        assert samples['local_agent_ends_total{cause="signalled"}'] == 1
        assert samples["local_agent_ends_reported_total"] == 1
        assert samples["local_agent_launches_total"] == samples["local_agent_launch_seconds_count"] == 2
        assert samples["local_agent_slots_free"] == 5
        assert samples["local_agent_api_reachable"] == 1
        assert samples["local_agent_poll_seconds_count"] >= 2
        assert samples["local_agent_api_request_seconds_count"] > samples["local_agent_poll_seconds_count"]
        with _prometheus(tmp_path / "prometheus", port) as prometheus:
            wait_until(
                lambda: _queried(prometheus, 'local_agent_ends_total{cause="signalled"}'),
                (tmp_path / "prometheus/log").read_text,
            )
            (found,) = _queried(prometheus, 'local_agent_ends_total{cause="signalled"}')
            assert found["value"][1] == "1"
            assert found["metric"]["job"] == "local-agent"


def test_rules_dashboard_and_documentation_name_what_there_is(api: Api, tmp_path: Path) -> None:
    port = _free_port()
    with AgentProcess(tmp_path / "agent", api.url, "--agent-address", f"127.0.0.1:{port}") as agent:
        agent.wait_for("Registered at")
        page = _get(port, "/metrics")[1]
    there = _families(page)
    documented = (CHECKOUT / "docs/commands/metrics.md").read_text()
    said = [pair for pair in re.findall(r"^# HELP (\S+) (.*)$", page, re.MULTILINE) if "_created" not in pair[0]]
    rows = [f"| `{name}` | {text} |" for name, text in said]
    assert [row for row in rows if row not in documented] == [], "docs/commands/metrics.md lacks these"
    for file in ("alerts.yml", "dashboard.json"):
        used = set(_NAME.findall((_MONITORING / file).read_text()))
        assert used, file
        assert not {name for name in used if name not in there}, file
    dashboard = json.loads((_MONITORING / "dashboard.json").read_text())
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_promtool_passes_the_rules_and_their_tests() -> None:
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]):
        done = subprocess.run(
            [binaries() / "promtool", *command],
            cwd=_MONITORING,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    alerts = re.findall(r"alert: (\w+)", (_MONITORING / "alerts.yml").read_text())
    tested = (_MONITORING / "alerts-test.yml").read_text()
    assert alerts
    assert [alert for alert in alerts if not re.search(rf"alertname: {alert}\n +exp_alerts:", tested)] == []
