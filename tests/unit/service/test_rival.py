"""An agent that is started by hand beside the service of its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_agent.errors import ConfigError
from local_agent.service.rival import refuse_beside_a_service

_SYSTEM = r"system.slice/system-local\x2dagent.slice"
_USER = rf"user.slice/user-{os.geteuid()}.slice/user@{os.geteuid()}.service/app.slice/app-local\x2dagent.slice"


@pytest.mark.parametrize("where", [_SYSTEM, _USER])
def test_it_is_refused_while_the_service_has_a_process(tmp_path: Path, where: str) -> None:
    folder = tmp_path / where / "local-agent@prod1.service"
    folder.mkdir(parents=True)
    (folder / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    with pytest.raises(ConfigError, match=r"local-agent@prod1\.service is this agent already") as raised:
        refuse_beside_a_service("prod1", "/user.slice/user-0.slice/session-1.scope", tmp_path)
    assert "journalctl -u local-agent@prod1.service" in raised.value.hint
    refuse_beside_a_service("prod1", f"/{where}/local-agent@prod1.service", tmp_path)
    refuse_beside_a_service("prod2", "/user.slice", tmp_path)
    (folder / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    refuse_beside_a_service("prod1", "/user.slice", tmp_path)


def test_without_systemd_nothing_is_in_the_way(tmp_path: Path) -> None:
    refuse_beside_a_service("prod1", "", tmp_path)
