"""What an agent of a Prefect 3 API is told, and by whom."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from local_agent.aio.clock import SystemClock
from local_agent.backends import kind
from local_agent.errors import ConfigError
from local_agent.settings import Settings
from local_agent.settings.show import as_lines
from unit.settings.conftest import Host


def _load(host: Host, **flags: object) -> Settings:
    return host.load({"protocol": "prefect3", **flags})


def test_an_instance_serves_the_pool_of_its_own_name(host: Host) -> None:
    host.environ.clear()
    settings = _load(host, instance="prod1")
    assert (settings.pool, settings.work_queues) == ("prod1", ())
    assert settings.api == "http://127.0.0.1:4200/api"
    assert _load(host, instance="prod1", pool="lab").pool == "lab"


def test_config_says_which_pool_is_served_and_no_labels(host: Host) -> None:
    host.environ.clear()
    assert "takes flow runs of work pool prod1" in as_lines(_load(host, instance="prod1"))
    settings = _load(host, pool="lab", work_queues=("a", "b"))
    assert "takes flow runs of work pool lab, queues a, b" in as_lines(settings)
    assert settings.effective_labels == ()
    assert "takes flow runs of work pool (none is named: --pool)" in as_lines(_load(host))


def test_prefects_own_variables_are_heard_below_ours(host: Host) -> None:
    host.environ.clear()
    host.environ["PREFECT_API_URL"] = "http://prefect:4200/api"
    host.environ["PREFECT_API_KEY"] = "pnu_1"
    host.environ["PREFECT_API_AUTH_STRING"] = "admin:pass word"
    settings = _load(host, pool="lab")
    assert settings.api == "http://prefect:4200/api"
    secrets = [settings.api_key, settings.auth_string]
    assert [secret.reveal() for secret in secrets if secret] == ["pnu_1", "admin:pass word"]
    assert "pass word" not in repr(settings)
    assert any("auth string goes over the network unencrypted" in warning for warning in settings.warnings)
    host.environ["LOCAL_AGENT_API"] = "https://other/api"
    assert _load(host, pool="lab").api == "https://other/api"


def test_prefect_1s_configuration_is_not_asked_for(host: Host) -> None:
    host.environ["PREFECT__CLOUD__API"] = "http://prefect1:4200"
    assert _load(host, pool="lab").api != "http://prefect1:4200"


def test_an_auth_string_has_two_parts(host: Host) -> None:
    with pytest.raises(ConfigError, match="--auth-string: it is not USER:PASSWORD"):
        _load(host, pool="lab", auth_string="admin")


def test_a_pool_must_be_named(host: Host) -> None:
    settings = dataclasses.replace(_load(host, pool="lab"), pool="")

    async def make() -> None:
        kind("prefect3").make(lambda: settings, {}, SystemClock(), None)

    with pytest.raises(ConfigError, match="no work pool is named"):
        asyncio.run(make())


@pytest.mark.parametrize(
    ("version", "is_fit"), [("3.9.1", True), ("3.0.11", True), ("2.20.25", True), ("2.19.0", False), ("1.4.1", False)]
)
def test_which_versions_run_its_flow_runs(version: str, is_fit: bool) -> None:
    assert (kind("prefect3").needs.why_not(version) == "") is is_fit
