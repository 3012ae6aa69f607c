"""What the doctor says of an API: one that answers, one that asks for another key, one that is down."""

from __future__ import annotations

from pathlib import Path

from local_agent.host.doctor.check import Finding, Verdict
from local_agent.host.doctor.instance import check_api, check_labels
from local_agent.settings import Settings, load_settings
from support.api import Api

_REGISTER = "mutation($i: register_agent_input!) { register_agent(input: $i) { id } }"
_POLL = "mutation($i: get_runs_in_queue_input!) { get_runs_in_queue(input: $i) { flow_run_ids } }"


def _settings(folder: Path, url: str, key: str = "") -> Settings:
    environ = {"HOME": str(folder), "LOCAL_AGENT_CONFIG_DIR": str(folder), "LOCAL_AGENT_API": url}
    return load_settings(
        flags={"instance": "prod1"},
        environ={**environ, **({"LOCAL_AGENT_API_KEY": key} if key else {})},
        hostname="thishost",
    )


def _failure(findings: list[Finding]) -> Finding:
    (finding,) = findings
    assert finding.verdict is Verdict.FAILURE
    assert finding.fix
    return finding


def test_an_api_that_answers(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        tenant = api.graphql("query { tenant { id } }")["tenant"][0]["id"]
        other = {"type": "LocalAgent", "name": "other", "labels": ["prod1"], "tenant_id": tenant}
        agent = api.graphql(_REGISTER, {"i": other})["register_agent"]["id"]
        poll = {"before": "2020-01-01T00:00:00+00:00", "labels": ["prod1"], "tenant_id": tenant}
        api.post({"query": _POLL, "variables": {"i": poll}}, headers={"X-PREFECT-AGENT-ID": agent})
        settings = _settings(tmp_path, api.url)
        findings, view = check_api(settings, "prod1")
    assert [finding.verdict for finding in findings] == [Verdict.OK, Verdict.OK], findings
    assert view is not None
    assert check_labels("prod1", settings, [settings], view).evidence == "prod1: the same as of agent other"


def test_a_key_that_is_not_the_apis(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db", key="right") as api:
        findings, _ = check_api(_settings(tmp_path, api.url, "right"), "prod1")
        assert findings[0].verdict is Verdict.OK
        assert "its key is accepted" in findings[0].evidence
        for key in ("wrong", ""):
            findings, view = check_api(_settings(tmp_path, api.url, key), "prod1")
            assert _failure(findings).check == "API key"
            assert view is None


def test_an_api_that_is_down(tmp_path: Path) -> None:
    findings, view = check_api(_settings(tmp_path, "http://127.0.0.1:9"), "prod1")
    assert _failure(findings).check == "API"
    assert view is None
