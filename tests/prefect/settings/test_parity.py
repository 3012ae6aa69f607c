"""The real prefect 1.4.1 and this agent read the same files and variables to the same values."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from local_agent.settings import Settings, load_settings
from support.prefect_venv import prefect_python

pytestmark = pytest.mark.prefect

# Prefect's own default backend is Cloud and ours is not: each case says which it wants.
CONFIGS = (
    "",
    'backend = "server"',
    """
backend = "cloud"
[cloud]
endpoint = "https://mine.example.com"
""",
    """
[cloud]
api = "http://x:1/${cloud.agent.name}"
request_timeout = 7
[cloud.agent]
name = "n-$WHO"
""",
    """
[server]
host = "http://s"
port = 99
[cloud.agent]
labels = ["a", "b"]
[cloud.agent.env_vars]
A = "${server.host}"
""",
    """
[cloud]
api = "${${backend}.endpoint}"
send_flow_run_logs = false
[cloud.agent]
labels = "['q', 'r']"
""",
    """
[cloud.agent]
name = "~/x"
agent_address = "http://localhost:8080"
level = "DEBUG"
[mine]
a = "${mine.b}"
b = "c"
""",
)
VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("PREFECT__SERVER__ENDPOINT", ("http://e:5", "$URL", "${cloud.endpoint}")),
    ("PREFECT__CLOUD__ENDPOINT", ("https://c.example.com",)),
    ("PREFECT__CLOUD__API", ("http://direct:1", "${server.endpoint}", "${${backend}.endpoint}", "${URL}")),
    ("PREFECT__CLOUD__API_KEY", ("key-1", "$KEY", '"quoted"')),
    ("PREFECT__CLOUD__AGENT__NAME", ("plain", "'quoted'", "${cloud.agent.level}-x", "a-$WHO-b")),
    ("PREFECT__CLOUD__AGENT__LABELS", ("['x', \"y z\"]", '["one"]', "('t', 'u')", "[]")),
    ("PREFECT__CLOUD__AGENT__ENV_VARS", ("{'A': '1', 'B': 'x y'}", '{"C": "$WHO"}')),
    ("PREFECT__CLOUD__AGENT__ENV_VARS__FOO", ("bar", "~/flows")),
    ("PREFECT__CLOUD__AGENT__LEVEL", ("WARNING",)),
    ("PREFECT__CLOUD__SEND_FLOW_RUN_LOGS", ("false", "True")),
    ("PREFECT__CLOUD__REQUEST_TIMEOUT", ("33", "2.5")),
    ("PREFECT__HOME_DIR", ("~/other",)),
)
COMMON = {"URL": "http://from-url:7", "KEY": "from-key", "WHO": "me"}


def _case(number: int, folder: Path) -> dict[str, str]:
    """A machine made up from a number: a home with files, and an environment."""
    chance = random.Random(number)
    home = folder / str(number)
    (home / ".prefect").mkdir(parents=True)
    (home / ".prefect/config.toml").write_text(CONFIGS[number % len(CONFIGS)])
    if chance.random() < 0.5:
        (home / ".prefect/backend.toml").write_text(f'backend = "{chance.choice(("server", "cloud"))}"\n')
    environ = {"HOME": str(home), **COMMON, "PREFECT__BACKEND": chance.choice(("server", "cloud"))}
    if (home / ".prefect/backend.toml").exists() and chance.random() < 0.5:
        del environ["PREFECT__BACKEND"]
    for name, texts in chance.sample(VARIABLES, k=4):
        environ[name] = chance.choice(texts)
    if "PREFECT__CLOUD__AGENT__ENV_VARS" in environ:  # both forms at once: Prefect lets the order decide
        environ.pop("PREFECT__CLOUD__AGENT__ENV_VARS__FOO", None)
    return environ


def _ours(environ: dict[str, str]) -> dict[str, object]:
    settings: Settings = load_settings(
        flags={}, environ={**environ, "LOCAL_AGENT_PYTHON": sys.executable}, config_dir=Path("/nowhere"), hostname="h"
    )
    return {
        "api": settings.api,
        "backend": settings.backend,
        "api_key": settings.api_key.reveal() if settings.api_key else "",
        "name": settings.name,
        "labels": list(settings.labels),
        "env": dict(settings.env),
        "agent_address": str(settings.agent_address or ""),
        "log_level": settings.log_level,
        "cloud_logs": settings.cloud_logs,
        "request_timeout": settings.request_timeout_seconds,
    }


@pytest.mark.timeout(300)
def test_both_read_the_same(tmp_path: Path) -> None:
    cases = [_case(number, tmp_path) for number in range(150)]
    answer = subprocess.run(
        [prefect_python(), Path(__file__).with_name("ask_prefect.py")],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    for environ, theirs in zip(cases, json.loads(answer.stdout), strict=True):
        assert _ours(environ) == theirs, environ
