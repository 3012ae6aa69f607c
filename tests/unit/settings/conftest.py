"""A home, a configuration folder and an environment of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local_agent.errors import ConfigError
from local_agent.settings import Settings, load_settings


@dataclass
class Host:
    """A machine as far as settings can see it."""

    home: Path
    config_dir: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str, *, mode: int = 0o600) -> Path:
        """Write a file of ours (prod1.toml) or of Prefect's (~/.prefect/config.toml)."""
        path = self.home / name[2:] if name.startswith("~/") else self.config_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def load(self, flags: Mapping[str, object] | None = None, /, **environ: str) -> Settings:
        """What the agent would use."""
        return load_settings(
            flags=flags or {},
            environ={"HOME": str(self.home), "PATH": "/usr/bin:/bin", **self.environ, **environ},
            config_dir=self.config_dir,
            hostname="host1",
        )

    def problems(self, flags: Mapping[str, object] | None = None, /, **environ: str) -> list[str]:
        """What is wrong, each with its hint."""
        with pytest.raises(ConfigError) as caught:
            self.load(flags, **environ)
        error = caught.value
        assert error.exit_code == 78
        return list(error.problems) or [f"{error.message} ({error.hint})"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An empty machine."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    return Host(tmp_path / "home", tmp_path / "etc", {"LOCAL_AGENT_PYTHON": sys.executable})
