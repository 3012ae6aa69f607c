"""`local-agent config` at the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.checkout import CHECKOUT


def _run(home: Path, code: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT / "src"), **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def _config(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return _run(home, ["-m", "local_agent", "config", "--config-dir", str(home), *arguments], **environ)


def test_each_value_and_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "prod1.toml"
    path.write_text('labels = ["b", "a"]\n[limits]\nmemory_max = "4G"\n')
    result = _config(tmp_path, "--instance", "prod1", "--limit", "3", LOCAL_AGENT_POLL_INTERVAL="1min")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if line}
    assert rows["labels"].split("  ")[0] == "b, a"
    assert rows["labels"].endswith(f"  {path}: labels")
    assert rows["limits.memory_max"].split() == ["4G", f"{path}:", "limits.memory_max"]
    assert rows["limit"].split() == ["3", "flag", "--limit"]
    assert rows["poll_interval"].split() == ["60", "variable", "LOCAL_AGENT_POLL_INTERVAL"]
    assert rows["name"].endswith("default (the instance's name)")
    assert str(path) in rows["files"]


def test_json_is_for_programs(tmp_path: Path) -> None:
    result = _config(tmp_path, "--json", "--memory-max", "1G", "-e", "A=1", "-k", "hidden-key")
    shown = json.loads(result.stdout)
    assert shown["settings"]["limits.memory_max"] == {
        "value": 1 << 30,
        "source": {"kind": "flag", "name": "--memory-max", "path": None},
    }
    assert shown["settings"]["env"]["value"] == {"A": "1"}
    assert shown["settings"]["api_key"]["value"] == "********"
    assert len(shown["warnings"]) == 1
    assert result.stderr.startswith("warning: --key: other users")
    assert "hidden-key" not in result.stdout + result.stderr


def test_settings_are_read_without_what_only_commands_need(tmp_path: Path) -> None:
    code = "import local_agent.settings, sys; print([m for m in ('click', 'jinja2', 'requests') if m in sys.modules])"
    assert _run(tmp_path, ["-c", code]).stdout == "[]\n"
