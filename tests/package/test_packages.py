"""The packages as files: what is in them, what their scripts do, what lintian says, and that two builds agree."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from build import build
from lint import lint
from roots import CHECKOUT, RELEASES
from support.plain_debian import plain_root

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

Packages = Mapping[int, Path]

# $1 a plain root, $2... packages. Their dependencies come from the repository in the root, which nobody has signed.
_PIUPARTS = """\
set -eu
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/debian /mnt/tmp
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/debian
printf 'Acquire::AllowInsecureRepositories "true";\\n' >/mnt/debian/etc/apt/apt.conf.d/99insecure
shift
exec piuparts --existing-chroot=/mnt/debian --tmpdir=/mnt/tmp --skip-minimize --no-eatmydata --no-upgrade-test \
    --distribution=debian --mirror="file:/srv/debian main" --do-not-verify-signatures "$@"
"""


def _field(package: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", package, name], check=True, stdout=subprocess.PIPE, text=True).stdout


def _names(package: Path) -> set[str]:
    listed = subprocess.run(["dpkg-deb", "--contents", package], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[5].removeprefix(".") for line in listed.splitlines()}


def _scripts(package: Path, folder: Path) -> dict[str, str]:
    subprocess.run(["dpkg-deb", "--control", package, folder], check=True)
    return {path.name: path.read_text() for path in folder.iterdir()}


def _text_of(package: Path, name: str) -> str:
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, stdout=subprocess.PIPE).stdout
    return subprocess.run(
        ["tar", "-xO", f".{name}"], input=unpacked, check=True, stdout=subprocess.PIPE
    ).stdout.decode()


def _package(packages: Packages, number: int, name: str) -> Path:
    (package,) = packages[number].glob(f"{name}_*.deb")
    return package


@pytest.mark.parametrize("number", RELEASES)
def test_lintian_finds_nothing(packages: Packages, number: int) -> None:
    assert lint(packages[number]) == []


@pytest.mark.parametrize("number", RELEASES)
def test_the_program_imports_nothing_of_its_users(packages: Packages, number: int) -> None:
    """Agents have the home of their flow runs, who would have them run what they put there."""
    program = _text_of(_package(packages, number, "local-agent"), "/usr/bin/local-agent")
    assert program.splitlines()[0] == "#!/usr/bin/python3 -I"


@pytest.mark.parametrize("number", RELEASES)
def test_two_builds_are_the_same_bytes(packages: Packages, number: int, tmp_path: Path) -> None:
    (source,) = packages[number].glob("*.tar.xz")
    (tmp_path / "local-agent").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "local-agent", "--strip-components=1", "-f", source], check=True)
    build(RELEASES[number], tmp_path / "local-agent", tmp_path / "again")
    assert _checksums(tmp_path / "again") == _checksums(packages[number])


@pytest.mark.parametrize("number", RELEASES)
def test_piuparts_finds_nothing(packages: Packages, number: int) -> None:
    debs = sorted(packages[number].glob("*.deb"))
    words = ["unshare", "--mount", "--propagation=private", "sh", "-c", _PIUPARTS, "sh"]
    words += map(str, [plain_root(number), *debs])
    result = subprocess.run([*words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout[-6000:]}{result.stderr}"
    assert "PASS: Installation and purging test" in result.stdout + result.stderr


def _checksums(folder: Path) -> dict[str, str]:
    packages = [*folder.glob("*.deb"), *folder.glob("*.tar.xz")]
    assert packages
    return {package.name: hashlib.sha256(package.read_bytes()).hexdigest() for package in packages}


def test_debian_12_has_no_server_package(packages: Packages) -> None:
    assert {package.name.split("_")[0] for package in packages[12].glob("*.deb")} == {"local-agent"}
    assert {package.name.split("_")[0] for package in packages[13].glob("*.deb")} == {
        "local-agent",
        "local-agent-server",
    }


def test_dependencies_are_those_of_pyproject(packages: Packages) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = {_debian_name(requirement) for requirement in project["dependencies"]}
    for number in RELEASES:
        depends = _field(_package(packages, number, "local-agent"), "Depends")
        names = {entry.split()[0] for entry in depends.split(",") if entry.strip().startswith("python3-")}
        assert names == wanted
    depends = _field(_package(packages, 13, "local-agent-server"), "Depends")
    for requirement in project["optional-dependencies"]["server"]:
        assert _debian_name(requirement) in depends


def _debian_name(requirement: str) -> str:
    name = re.split(r"[<>=~!\[; ]", requirement)[0].lower()
    return {"systemd-python": "python3-systemd"}.get(name, f"python3-{name}")


@pytest.mark.parametrize("number", RELEASES)
def test_no_script_stops_flow_runs(packages: Packages, number: int, tmp_path: Path) -> None:
    for package in packages[number].glob("*.deb"):
        for name, text in _scripts(package, tmp_path / package.stem).items():
            calls = [line for line in text.splitlines() if re.search(r"deb-systemd-invoke|systemctl", line)]
            assert not [line for line in calls if "slice" in line], name
            assert not [line for line in calls if re.search(r"(?<!try-)restart\S* .*local-agent[@.]", line)], name


def test_the_two_packages_share_no_file(packages: Packages) -> None:
    agent, server = (_names(_package(packages, 13, name)) for name in ("local-agent", "local-agent-server"))
    shared = {name for name in agent & server if not name.endswith("/")}
    assert shared == set()
    assert not [name for name in agent if "/local_agent/server/" in name]


@pytest.mark.parametrize("number", RELEASES)
def test_everything_is_where_people_look(packages: Packages, number: int) -> None:
    names = _names(_package(packages, number, "local-agent"))
    wanted = {
        "/etc/local-agent/agent.toml",
        "/usr/bin/local-agent",
        *(f"/usr/lib/systemd/system/local-agent{unit}" for unit in ("@.service", ".target", "-broker.socket")),
        "/usr/lib/systemd/system/local-agent-broker.service",
        "/usr/lib/systemd/system/flowruns.slice",
        "/usr/lib/systemd/catalog/local-agent.catalog",
        "/usr/lib/sysusers.d/local-agent.conf",
        "/usr/lib/tmpfiles.d/local-agent.conf",
        "/usr/share/dbus-1/system.d/local-agent.conf",
        "/usr/share/polkit-1/rules.d/90-local-agent.rules",
        "/usr/share/bash-completion/completions/local-agent",
        "/usr/share/zsh/vendor-completions/_local-agent",
        "/usr/share/fish/vendor_completions.d/local-agent.fish",
        "/usr/share/doc/local-agent/README.Debian",
        *(f"/usr/share/doc/local-agent/{name}.md" for name in ("README", "NEWS", "SECURITY", "commands/ps")),
        "/usr/share/doc/local-agent/examples/agent.toml",
        *(f"/usr/share/doc/local-agent/examples/monitoring/{name}" for name in ("alerts.yml", "dashboard.json")),
        "/usr/share/doc/local-agent/examples/strict.conf",
        "/usr/share/man/man1/local-agent.1.gz",
        "/usr/share/man/man1/local-agent-start.1.gz",
        "/usr/share/man/man5/local-agent.toml.5.gz",
        "/usr/share/man/man7/local-agent-journal.7.gz",
        "/usr/share/man/man8/local-agent@.service.8.gz",
    }
    assert wanted - names == set()
    assert not [name for name in names if name.startswith(("/lib/", "/usr/local/"))]
