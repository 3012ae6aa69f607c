"""Install, use, upgrade, remove, install again, purge: on plain booted Debians, from a signed apt repository.

The tests of this file follow each other on one machine; each begins where the one before has ended.
"""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from local_agent.units.names import flow_run_of, is_nobodys
from package.conftest import NEXT, Repository
from support import player, real_flows
from support.api import Api
from support.api_client import ApiClient, wait_until
from support.machine import Machine
from support.plain_debian import REPOSITORY

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(600)]

APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends"
_FLOWS_PYTHON = "/opt/flows/venv/bin/python"
_LIVE_RUNS = 20
_GO = "/tmp/go"
_PLAYS = """\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit; fi
exec /usr/bin/python3 -S -E -s /opt/player/player.py "$@"
"""
_SERVER_ON_PORT = "[Service]\nExecStart=\nExecStart=/usr/bin/local-agent server --port {port}\n"
_PLANT_LINKS = """\
echo own >/tmp/own-$$
for place in {places}; do
    ln -s /srv/kept/file $place/link
    ln -s /srv/kept/folder $place/link-to-folder
    ln /tmp/own-$$ $place/hard 2>/dev/null || ln $place/../*/hard $place/hard 2>/dev/null || cp /tmp/own-$$ $place/hard
    ln $place/hard $place/harder
    ! ln /srv/kept/file $place/roots 2>/dev/null
done
"""
_LAX_RULE = """\
polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units") return polkit.Result.YES;
});
"""
# by each way in which a Python takes in code from its user's home; it tells in whose cgroup it ran
_PLANT_IMPORTS = """\
folder=$(python3 -m site --user-site)
mkdir -p "$folder"
echo 'open("/tmp/reached", "a").write(open("/proc/self/cgroup").read())' >"$folder/usercustomize.py"
echo 'import usercustomize' >"$folder/planted.pth"
python3 -c '' && rm /tmp/reached
"""
_OURS = "-name '*local-agent*' -o -name '*flowruns*' -o -name '*flow-run-*'"
_NOT_OURS = "/proc /sys /srv /tmp /var/log /run/log /var/lib/apt /var/cache/apt /etc/apt"
_ADMINS = "/etc/systemd/system/local-agent@prod1.service.d"


class ServerInside(ApiClient):
    """local-agent-server in the machine, on a port of the loopback that it shares with us."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: object, *, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Send any JSON body and return the status and JSON of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def api(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api | ServerInside]:
    """The packaged server, started as an admin would; on Debian 12, which has no package of it, one outside."""
    with ExitStack() as ends:
        if machine.release == 12:
            yield ends.enter_context(Api(tmp_path_factory.mktemp("api") / "server.db"))
            return
        server = ServerInside(random.randrange(12_000, 32_000))
        text = _SERVER_ON_PORT.format(port=server.port)
        machine.write("/etc/systemd/system/local-agent-server.service.d/port.conf", text)
        machine.run("systemctl daemon-reload && systemctl enable --now local-agent-server.service")
        yield server


def _show(machine: Machine, unit: str, name: str) -> str:
    return machine.run(["systemctl", "show", "--property", name, "--value", unit]).stdout.strip()


def _states(machine: Machine, *units: str) -> list[str]:
    return [_show(machine, unit, "ActiveState") for unit in units]


def _live_scopes(machine: Machine) -> set[str]:
    """Return the scopes of flow runs, and not the one in which an agent that starts asks about the interpreter."""
    listed = machine.run("systemctl list-units --plain --no-legend --state=active 'flow-run-*.scope'").stdout
    units = {line.split()[0] for line in listed.splitlines()}
    return {unit for unit in units if not is_nobodys(flow_run_of(unit))}


def _left(machine: Machine) -> set[str]:
    """Return the files that have our names, wherever we might have left some."""
    pruned = " -o ".join(f"-path {path}" for path in _NOT_OURS.split())
    found = machine.run(f"find / \\( {pruned} \\) -prune -o \\( {_OURS} \\) -print -prune").stdout
    return set(found.splitlines())


def put_player(machine: Machine, instance: str, more: str = "") -> None:
    """Have the flow runs of an instance played; `more` goes into its settings."""
    machine.write("/opt/player/player.py", Path(player.__file__).read_text())
    machine.write("/opt/player/python", _PLAYS, mode=0o755)
    starts = 'env = { PLAY_STARTS = "/tmp/starts" }'
    machine.write(f"/etc/local-agent/{instance}.toml", f'{more}python = "/opt/player/python"\n{starts}\n')


def start_live_runs(
    machine: Machine, api: Api | ServerInside, label: str, count: int, end: str = "report Success"
) -> list[str]:
    """Start flow runs that go on until the test lets them go, and return their ids."""
    machine.run(["rm", "-f", _GO])
    env = {"PLAY": f"report Running\nawait {_GO}\n{end}"}
    config = {"type": "LocalRun", "labels": [label], "env": env, "working_dir": None, "__version__": "1.4.1"}
    runs = api.create_flow_runs(api.create_flow(f"live-{label}", run_config=config), count)
    wait_until(lambda: set(api.states_of(runs).values()) == {"Running"}, lambda: str(api.states_of(runs)))
    assert {f"flow-run-{run}.scope" for run in runs} <= _live_scopes(machine)
    return runs


def _end_live_runs(machine: Machine, api: Api | ServerInside, runs: list[str]) -> None:
    machine.run(["touch", _GO])
    wait_until(lambda: set(api.states_of(runs).values()) == {"Success"}, lambda: str(api.states_of(runs)))
    wait_until(lambda: not _live_scopes(machine), lambda: str(_live_scopes(machine)))


def test_install(machine: Machine) -> None:
    assert _left(machine) == set()
    names = "local-agent" if machine.release == 12 else "local-agent local-agent-server"
    machine.run(f"{APT} install {names}", timeout_seconds=300)
    assert _states(machine, "local-agent-broker.socket", "local-agent.target") == ["active", "active"]
    assert (
        machine.run("systemctl is-enabled local-agent-broker.socket local-agent.target").stdout.split()
        == ["enabled"] * 2
    )
    assert machine.run("systemctl list-units --plain --no-legend 'local-agent@*'").stdout == ""
    if machine.release != 12:
        for kind in ("service", "socket"):
            assert _states(machine, f"local-agent-server.{kind}") == ["inactive"]
            assert machine.run(f"systemctl is-enabled local-agent-server.{kind}", check=False).stdout == "disabled\n"
    assert machine.run("getent passwd local-agent").stdout.split(":")[5:] == [
        "/var/lib/local-agent-home",
        "/usr/sbin/nologin\n",
    ]
    assert machine.run("systemctl --failed --plain --no-legend").stdout == ""


def test_the_user_of_flow_runs_gets_no_session(machine: Machine) -> None:
    """Neither a manager of systemd, which could take flow runs out of their limits, nor a login by a key at home."""
    uid = machine.run(["id", "-u", "local-agent"]).stdout.strip()
    machine.run(["loginctl", "enable-linger", "local-agent"], check=False)
    try:
        machine.wait_until(f"systemctl is-failed user@{uid}.service")
        assert machine.run(["su", "-s", "/bin/sh", "local-agent", "-c", "true"], check=False).returncode != 0
        assert machine.run(["runuser", "-u", "local-agent", "--", "true"], check=False).returncode == 0
    finally:
        machine.run(["loginctl", "disable-linger", "local-agent"], check=False)
        machine.run(f"systemctl stop user@{uid}.service; systemctl reset-failed", check=False)


def test_polkit_grants_the_user_of_flow_runs_nothing(machine: Machine) -> None:
    """By default it lets anybody have a manager of systemd that goes on without a login; a rule may let more."""
    machine.run(f"{APT} install polkitd", timeout_seconds=300)
    machine.run("useradd --create-home other")
    machine.write("/etc/polkit-1/rules.d/95-lax.rules", _LAX_RULE)
    machine.run("systemctl restart polkit")
    actions = ("org.freedesktop.login1.set-self-linger", "org.freedesktop.systemd1.manage-units")
    try:
        for action in actions:
            for user, code in (("other", 0), ("local-agent", 1)):
                script = f"exec pkcheck --action-id {action} --process $$"
                asked = machine.run(["runuser", "-u", user, "--", "sh", "-c", script], check=False)
                assert asked.returncode == code, (action, user, asked)
    finally:
        machine.run("rm /etc/polkit-1/rules.d/95-lax.rules; userdel --remove other", check=False)
        machine.run(f"{APT} purge --autoremove polkitd", timeout_seconds=300)


def test_an_instance_with_nothing_written(machine: Machine) -> None:
    machine.run("systemctl enable --now local-agent@prod1")
    assert _states(machine, "local-agent@prod1.service") == ["active"]
    assert _show(machine, "local-agent@prod1.service", "User") == "local-agent"
    shown = json.loads(machine.run("local-agent config --instance prod1 --json").stdout)
    text = json.dumps(shown)
    assert "http://localhost:4200" in text
    assert '"prod1"' in text
    machine.wait_until("systemctl show -P StatusText local-agent@prod1 | grep -q API")


def test_agents_import_nothing_from_the_home_of_flow_runs(machine: Machine) -> None:
    """What is installed is looked at: Debian's tools write a program's first line anew, each release in its own way."""
    as_its_user = ["env", "HOME=/var/lib/local-agent-home", "runuser", "-u", "local-agent", "--", "sh", "-euc"]
    machine.run([*as_its_user, _PLANT_IMPORTS])
    try:
        machine.run("systemctl restart local-agent@prod1 && systemctl reload local-agent@prod1")
        machine.run("local-agent doctor --instance prod1", check=False, timeout_seconds=120)
        machine.wait_until("grep -q flow-run- /tmp/reached")  # the interpreter of flow runs imports it, in a scope
        places = machine.run("cat /tmp/reached").stdout.split()
        assert [place for place in places if "local-agent@" in place or "init.scope" in place] == []
    finally:
        machine.run("rm -rf /var/lib/local-agent-home/.local /tmp/reached")


def test_a_real_flow_run(machine: Machine, api: Api | ServerInside) -> None:
    machine.write("/etc/local-agent/agent.toml", f'api = "{api.url}"\npython = "{_FLOWS_PYTHON}"\n')
    machine.run("systemctl restart local-agent@prod1")
    machine.write("/srv/real_flows.py", Path(real_flows.__file__).read_text())
    variables = [f"{name}={value}" for name, value in real_flows.environment(api.url, "/srv/flows").items()]
    words = ["env", *variables, _FLOWS_PYTHON, "/srv/real_flows.py", "prod1"]
    flows = real_flows.registered(machine.run(words, timeout_seconds=120).stdout)
    machine.run("chmod -R a+rX /srv/flows")
    run = api.create_flow_run(flows["hello"])
    api.wait_for_state(run, "Success")
    assert "hello from the flow" in machine.journal("-t", f"flow-run-{run}", "-o", "cat")
    assert "The API has taken the agent in" in machine.journal("-x", "-u", "local-agent@prod1")


def test_what_people_look_for_is_there(machine: Machine) -> None:
    completed = machine.run("COMP_WORDS='local-agent re' COMP_CWORD=1 _LOCAL_AGENT_COMPLETE=bash_complete local-agent")
    assert "plain,reload" in completed.stdout
    machine.run(f"{APT} install fish zsh", timeout_seconds=300)
    assert "reload" in machine.run(["fish", "-c", 'complete --do-complete "local-agent re"']).stdout
    assert "prod1" in machine.run(["fish", "-c", 'complete --do-complete "local-agent drain --instance "']).stdout
    autoloaded = "autoload -Uz compinit && compinit -u && print -r -- $_comps[local-agent]"
    assert machine.run(["zsh", "-c", autoloaded]).stdout == "_local-agent\n"
    assert "systemctl enable --now local-agent@prod1" in machine.read("/usr/share/doc/local-agent/README.Debian")
    page = machine.run("zcat '/usr/share/man/man8/local-agent@.service.8.gz'").stdout
    assert page.startswith(".TH")


def _kept(machine: Machine) -> str:
    """Return what lies where the links lead: owner, mode and content of each."""
    return machine.run("cd /srv/kept && stat -c '%n %U %a' . * */* && cat file folder/file").stdout


def test_links_of_flow_runs(machine: Machine) -> None:
    """Planted wherever their user may write, for what upgrade and purge do as root: the tests below look again."""
    machine.run("mkdir -p /srv/kept/folder && cd /srv/kept && echo kept | tee file folder/file && chmod 600 file")
    before = _kept(machine)
    places = "/var/lib/local-agent/prod1 /var/lib/local-agent/prod1/runs /var/lib/local-agent-home"
    machine.run(["runuser", "-u", "local-agent", "--", "sh", "-euc", _PLANT_LINKS.format(places=places)])
    for folder in ("/var/lib", "/var/lib/local-agent", "/run/local-agent", "/run", "/etc/local-agent"):
        made = machine.run(["runuser", "-u", "local-agent", "--", "touch", f"{folder}/x"], check=False)
        assert made.returncode == 1, f"what is in {folder} could be a link, too"
    machine.run("systemd-sysusers && systemd-tmpfiles --create && systemctl restart local-agent@prod1")
    assert _kept(machine) == before


def test_upgrade_restarts_what_runs_and_touches_no_flow_run(
    machine: Machine, api: Api | ServerInside, repository: Repository
) -> None:
    for name in ("prod1", "disabled", "stopped"):
        put_player(machine, name)
    machine.run("systemctl restart local-agent@prod1 && systemctl start local-agent@disabled")
    machine.run("systemctl enable local-agent@stopped")
    runs = start_live_runs(machine, api, "prod1", _LIVE_RUNS)
    before = {name: _show(machine, f"local-agent@{name}.service", "InvocationID") for name in ("prod1", "disabled")}

    kept = _kept(machine)
    machine.run(["rm", "-r", REPOSITORY])
    machine.copy_in(repository.next, REPOSITORY)
    machine.run(f"apt-get -q update && {APT} -o Dpkg::Options::=--force-confold upgrade", timeout_seconds=300)
    assert _kept(machine) == kept
    assert NEXT in machine.run("dpkg-query -W -f '${Version}' local-agent").stdout

    assert _states(machine, *(f"local-agent@{name}.service" for name in ("prod1", "disabled", "stopped"))) == [
        "active",
        "active",
        "inactive",
    ]
    after = {name: _show(machine, f"local-agent@{name}.service", "InvocationID") for name in before}
    assert not set(after.values()) & set(before.values()), "they were not restarted"
    assert _states(machine, "local-agent-broker.socket", "local-agent.target") == ["active", "active"]
    assert len(_live_scopes(machine)) == _LIVE_RUNS
    _end_live_runs(machine, api, runs)


def test_the_target_is_all_instances(machine: Machine) -> None:
    instances = [f"local-agent@{name}.service" for name in ("prod1", "disabled", "stopped")]
    machine.run("systemctl stop local-agent.target")
    machine.wait_until(lambda: _states(machine, *instances) == ["inactive"] * 3)
    machine.run("systemctl start local-agent.target")
    machine.wait_until(lambda: _states(machine, *instances) == ["active", "inactive", "active"])
    machine.run("systemctl disable --now local-agent@stopped")


def test_remove_stops_agents_and_leaves_flow_runs(machine: Machine, api: Api | ServerInside) -> None:
    runs = start_live_runs(machine, api, "prod1", 3)
    machine.run(f"{APT} remove local-agent", timeout_seconds=300)
    assert machine.run("systemctl list-units --plain --no-legend --state=active 'local-agent[@-]*'").stdout == ""
    assert len(_live_scopes(machine)) == 3
    assert "/usr/bin/local-agent" not in _left(machine)

    machine.run(f"{APT} install local-agent", timeout_seconds=300)
    assert _states(machine, "local-agent@prod1.service", "local-agent@disabled.service") == ["active", "inactive"]
    if machine.release != 12:
        machine.run(f"{APT} install local-agent-server && systemctl start local-agent-server", timeout_seconds=300)
    _end_live_runs(machine, api, runs)


def test_purge_keeps_the_state_of_live_flow_runs(machine: Machine, api: Api | ServerInside) -> None:
    machine.write(f"{_ADMINS}/admin.conf", "[Service]\nEnvironment=OF=AN_ADMIN\n")
    machine.run("systemctl set-property flowruns-prod1.slice MemoryMax=16G")
    # on Debian 13 the API is purged, too
    start_live_runs(machine, api, "prod1", 1, end="exit 0")
    purged = machine.run(f"{APT} purge local-agent", timeout_seconds=300)
    assert "1 flow runs are still running" in purged.stdout + purged.stderr
    assert len(_live_scopes(machine)) == 1
    assert machine.run("ls /var/lib/local-agent/prod1/runs").stdout
    machine.run(["touch", _GO])
    wait_until(lambda: not _live_scopes(machine), lambda: str(_live_scopes(machine)))


def test_purge_leaves_nothing(machine: Machine) -> None:
    names = "local-agent" if machine.release == 12 else "local-agent local-agent-server"
    machine.run(f"{APT} install {names} && systemctl enable --now local-agent@prod1", timeout_seconds=300)
    machine.run("systemctl set-property flowruns-prod1.slice MemoryMax=16G")
    if machine.release != 12:
        machine.run("rm -r /etc/systemd/system/local-agent-server.service.d")
        machine.run("systemctl daemon-reload && systemctl enable --now local-agent-server", check=False)
        machine.run("systemctl enable local-agent-server.socket")
    kept = _kept(machine)
    assert machine.run("ls -d /var/lib/local-agent-home/link").stdout, "they are still there"
    machine.run(f"{APT} purge {names}", timeout_seconds=300)
    assert _kept(machine) == kept
    assert _left(machine) == {_ADMINS}, "an admin's drop-in stays, and nothing else"
    assert (
        machine.run("systemctl list-unit-files --plain --no-legend 'local-agent*' 'flowruns*'", check=False).stdout
        == ""
    )
    assert machine.run("systemctl --failed --plain --no-legend").stdout == ""
    assert machine.run("getent passwd local-agent", check=False).returncode == 0
