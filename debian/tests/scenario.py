"""The tests of the installed package, for autopkgtest: `python3 debian/tests/scenario.py service|upgrade|purge`.

They need a service manager, root, and an API: local-agent-server, or where the release has no package of it (Debian
12) an interpreter with graphql-core 3 in $SERVER_PYTHON, which then serves from this source tree. Without either a test
is skipped (exit code 77).

Flow runs are played by tests/support/player.py: prefect is not in Debian.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests"))

from support.api_client import ApiClient, wait_until  # noqa: E402 - only now it can be found

AGENT = "local-agent@autopkgtest.service"
SETTINGS = Path("/etc/local-agent/autopkgtest.toml")
PLAYER = Path("/var/tmp/local-agent-player")
SKIP = 77
NOBODYS = "6e6f626f-6479-0000-"
LIVE_RUNS = 5
DROP_IN = Path("/etc/systemd/system/local-agent-server.service.d/autopkgtest.conf")


def run(*words: str, check: bool = True) -> str:
    """Run a command, show it, and return what it printed."""
    print("+", *words, flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=check)
    return done.stdout.strip()


def state_of(unit: str) -> str:
    """Return a unit's ActiveState."""
    return run("systemctl", "show", "--property=ActiveState", "--value", unit)


class Api(ApiClient):
    """The API on a port of loopback."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{port}"

    def post(self, body: object, *, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Send any JSON body and return the status and JSON of the answer."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), sent)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())

    def is_up(self) -> bool:
        """Tell whether it answers."""
        try:
            return bool(self.tenant_id)
        except OSError:
            return False


@contextmanager
def serving() -> Iterator[Api]:
    """Start an API on a free port, in the way that this release has."""
    port = random.randrange(12_000, 32_000)
    if Path("/usr/lib/systemd/system/local-agent-server.service").exists():
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(f"[Service]\nExecStart=\nExecStart=/usr/bin/local-agent server --port {port}\n")
        run("systemctl", "daemon-reload")
        run("systemctl", "start", "local-agent-server.service")
        unit = "local-agent-server.service"
    elif python := os.environ.get("SERVER_PYTHON"):
        unit = "autopkgtest-api.service"
        words = [python, "-m", "local_agent", "server", "--port", str(port), "--data", "/run/autopkgtest-api.db"]
        run("systemd-run", "--quiet", f"--unit={unit}", f"--setenv=PYTHONPATH={SOURCE / 'src'}", *words)
    else:
        print("this release has no local-agent-server, and SERVER_PYTHON names no interpreter with graphql-core 3")
        sys.exit(SKIP)
    api = Api(port)
    wait_until(api.is_up, lambda: run("journalctl", "-u", unit, "-n", "50", check=False))
    try:
        yield api
    finally:
        run("systemctl", "stop", unit, check=False)
        DROP_IN.unlink(missing_ok=True)


def configure(api: Api) -> None:
    """Have the instance use the API, and a player in place of an interpreter with prefect."""
    PLAYER.mkdir(exist_ok=True)
    (PLAYER / "player.py").write_text((SOURCE / "tests/support/player.py").read_text())
    python = PLAYER / "python"
    python.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then echo 1.4.1; exit; fi\n'
        f'exec /usr/bin/python3 -S -E -s {PLAYER}/player.py "$@"\n'
    )
    python.chmod(0o755)
    env = '{ PLAY_STARTS = "/tmp/autopkgtest-starts" }'
    SETTINGS.write_text(f'api = "{api.url}"\npython = "{python}"\nenv = {env}\n')


def start_runs(api: Api, count: int, play: str) -> list[str]:
    """Create flow runs that play `play`."""
    config = {"type": "LocalRun", "labels": ["autopkgtest"], "env": {"PLAY": play}, "working_dir": None}
    flow = api.create_flow(f"autopkgtest-{count}", run_config={**config, "__version__": "1.4.1"})
    return api.create_flow_runs(flow, count)


def wait_for(api: Api, runs: list[str], state: str) -> None:
    """Wait until all runs are in a state at the API."""
    wait_until(lambda: set(api.states_of(runs).values()) == {state}, lambda: str(api.states_of(runs)))


def live_runs(api: Api, go: Path) -> list[str]:
    """Start flow runs that end when there is a file."""
    go.unlink(missing_ok=True)
    runs = start_runs(api, LIVE_RUNS, f"report Running\nawait {go}\nreport Success")
    wait_for(api, runs, "Running")
    return runs


def live_scopes() -> int:
    """Return how many flow runs have a scope.

    While an agent asks the interpreter for its prefect, which it does at each start, there is a scope of nobody's, too.
    """
    listed = run("systemctl", "list-units", "--plain", "--no-legend", "--state=active", "flow-run-*").splitlines()
    return len([line for line in listed if not line.startswith(f"flow-run-{NOBODYS}")])


def service(api: Api, go: Path) -> None:
    """A flow run to Success; a restart keeps one; a stop is clean."""
    run("systemctl", "enable", "--now", AGENT)
    runs = start_runs(api, 1, "say hello from autopkgtest\nreport Running\nreport Success")
    wait_for(api, runs, "Success")
    assert "hello from autopkgtest" in run("journalctl", "-t", f"flow-run-{runs[0]}", "-o", "cat")
    live = live_runs(api, go)
    run("systemctl", "restart", AGENT)
    assert live_scopes() == LIVE_RUNS, "a restart ended flow runs"
    go.touch()
    wait_for(api, live, "Success")
    run("systemctl", "disable", "--now", AGENT)
    assert state_of(AGENT) == "inactive"
    assert run("systemctl", "show", "--property=Result", "--value", AGENT) == "success"


def upgrade(api: Api, go: Path) -> None:
    """From a lower version: flow runs go on, the agent that runs is restarted, and no other is started."""
    downgrade()
    run("systemctl", "start", AGENT)
    run("systemctl", "enable", "local-agent@stopped")
    live = live_runs(api, go)
    before = run("systemctl", "show", "--property=InvocationID", "--value", AGENT)
    run("apt-get", "-q", "-y", "install", "local-agent")
    assert run("systemctl", "show", "--property=InvocationID", "--value", AGENT) != before
    assert (state_of(AGENT), state_of("local-agent@stopped")) == ("active", "inactive")
    assert live_scopes() == LIVE_RUNS, "an upgrade ended flow runs"
    go.touch()
    wait_for(api, live, "Success")
    run("systemctl", "disable", "local-agent@stopped")
    run("systemctl", "stop", AGENT)


def downgrade() -> None:
    """Install the package again under a lower version."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["apt-get", "-q", "download", "local-agent"], cwd=folder, check=True)
        (package,) = folder.glob("*.deb")
        run("dpkg-deb", "--raw-extract", str(package), str(folder / "contents"))
        control = folder / "contents/DEBIAN/control"
        control.write_text(re.sub(r"^Version: .*", "Version: 0.0.1", control.read_text(), flags=re.MULTILINE))
        run("dpkg-deb", "--root-owner-group", "--build", str(folder / "contents"), str(folder / "older.deb"))
        run("dpkg", "--force-downgrade", "--force-depends", "--force-confold", "--install", str(folder / "older.deb"))


def purge(_api: Api, _go: Path) -> None:
    """After a purge no file, no unit and no state of ours is left."""
    run("systemctl", "enable", "--now", AGENT)
    installed = run("dpkg-query", "--show", "--showformat=${Package} ", "local-agent*").split()
    run("apt-get", "-q", "-y", "purge", *installed)
    found = run(
        "sh",
        "-c",
        "find /etc /usr /var/lib /run -xdev -name '*local-agent*' -not -path '/var/lib/apt/*' -not -path '/etc/apt/*'",
    )
    assert set(found.splitlines()) - {str(DROP_IN.parent)} == set(), found
    assert run("systemctl", "list-unit-files", "--no-legend", "local-agent*", check=False) == ""


TESTS: Mapping[str, Callable[[Api, Path], None]] = {"service": service, "upgrade": upgrade, "purge": purge}


def main(name: str) -> None:
    """Run a test; show the journal where it fails."""
    go = Path("/tmp/autopkgtest-go")
    try:
        with serving() as api:
            configure(api)
            TESTS[name](api, go)
    except BaseException as error:  # a time limit's signal, too: whatever ended it, the journal tells more
        if not isinstance(error, SystemExit):
            print(run("journalctl", "-b", "-n", "300", "--no-pager", check=False))
        raise
    finally:
        SETTINGS.unlink(missing_ok=True)
        go.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
