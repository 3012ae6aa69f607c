"""What the control socket tells of the settings in force: masked, with what waits, whatever the disk does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from local_agent.errors import ConfigError
from local_agent.host.doctor.in_use import check_in_use
from local_agent.host.reading.in_use import InUse, Waiting, in_use
from local_agent.host.reading.instances import Instance
from local_agent.service.settings_in_force import InForce
from local_agent.settings import Settings, load_settings

pytestmark = pytest.mark.timeout(60)


def _settings(folder: Path, **flags: object) -> Settings:
    given = {"instance": "prod1", "python": "/bin/sh", "env": ["MY_TOKEN=hidden-word"], **flags}
    return load_settings(flags=given, environ={"HOME": str(folder)}, config_dir=folder, hostname="host")


async def _told(settings: Settings, read_again: Callable[[], Settings]) -> InUse:
    in_force = InForce(lambda: settings, read_again)
    try:
        answer = await in_force.commands()["settings"]()
    finally:
        in_force.close()
    assert "hidden-word" not in answer
    return in_use(json.loads(answer))


async def test_what_holds_is_told_and_nothing_waits(tmp_path: Path) -> None:
    settings = _settings(tmp_path, limit="3")
    used = await _told(settings, lambda: _settings(tmp_path, limit="3"))
    assert used.told["settings"]["limit"] == {
        "value": 3,
        "source": {"kind": "flag", "name": "--limit", "path": None},
    }
    assert any(line.startswith("limit ") for line in used.lines)
    assert used.waiting == Waiting()


async def test_what_changed_is_told_apart(tmp_path: Path) -> None:
    used = await _told(_settings(tmp_path), lambda: _settings(tmp_path, limit="3", api="http://other:4200"))
    assert used.waiting == Waiting(("limit",), ("api",))
    assert used.waiting.in_words("RESTART", "RELOAD") == (
        "api changed and waits for a restart: RESTART",
        "limit changed since the agent read it: RELOAD",
    )
    assert used.told["settings"]["limit"]["value"] is None, "what holds is what the agent uses"


async def test_settings_that_are_wrong_now(tmp_path: Path) -> None:
    used = await _told(_settings(tmp_path), lambda: _settings(tmp_path, limit="many"))
    assert "many" in used.waiting.problem
    assert "restart would refuse" in used.waiting.in_words("", "")[0]


async def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    over, reads = threading.Event(), []

    def hang() -> Settings:
        reads.append(1)
        over.wait(50)
        raise ConfigError("no more")

    settings = _settings(tmp_path)
    in_force = InForce(lambda: settings, hang)
    try:
        for _ in range(2):
            told = in_use(json.loads(await in_force.commands()["settings"]()))
            assert told.waiting.problem == "its files cannot be read in time"
        assert len(reads) == 1, "there is one thread, and nothing waits behind it"
    finally:
        over.set()
        in_force.close()
        await asyncio.sleep(0)  # in which what is cancelled ends


async def test_what_only_the_unit_knows_waits_for_a_restart(tmp_path: Path) -> None:
    used = await _told(_settings(tmp_path, limit="3"), lambda: _settings(tmp_path, limit="4"))
    instance = Instance("prod1", None, None, may_ask=True)
    values = {key: one["value"] for key, one in used.told["settings"].items()}
    (found,) = check_in_use(instance, used, values)
    assert (found.evidence, found.fix) == (
        "limit changed since the agent read it",
        "local-agent reload --instance prod1",
    )
    nothing = replace(used, waiting=Waiting())
    assert check_in_use(instance, nothing, values) == []
    (found,) = check_in_use(instance, nothing, {**values, "poll_interval": 7, "api_key": "x"})
    assert found.evidence == "poll_interval changed and waits for a restart"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"settings": []},
        {"settings": {}, "waiting": None, "lines": []},
        {"settings": {}, "waiting": {"reload": 1, "restart": []}, "lines": []},
        {"settings": {}, "waiting": {"reload": [], "restart": [None]}, "lines": []},
        {"settings": {}, "waiting": {"reload": [], "restart": []}, "lines": "x"},
    ],
)
def test_an_answer_that_is_no_agents(answer: object) -> None:
    with pytest.raises(ValueError, match="no"):
        in_use(answer)
