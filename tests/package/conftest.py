"""The packages of this checkout, a signed repository of them, and plain Debians that have it as an apt source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from apt_repository import make_repository
from build import built
from roots import RELEASES
from support.machine import Machine
from support.plain_debian import plain_machine

_KEY = "tests@local-agent.invalid"
NEXT = "+next"


@pytest.fixture(scope="session")
def packages() -> Mapping[int, Path]:
    """Each release's folder of packages, built now unless they are there."""
    if os.geteuid() != 0:
        pytest.skip("building packages needs root")
    with ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(built, RELEASES.values()), strict=True))


@dataclass(frozen=True)
class Repository:
    """A signed apt repository: what was built, and the same as a next version that is offered later."""

    now: Path
    next: Path
    keyring: Path


@pytest.fixture(scope="session")
def repository(packages: Mapping[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository signed with a key made for this run."""
    folder = tmp_path_factory.mktemp("repository")
    home = folder / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    parameters = ["--passphrase", "", "--quick-generate-key", _KEY, "ed25519", "sign", "never"]
    subprocess.run([*gpg, *parameters], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*gpg, "--output", folder / "keyring.gpg", "--export", _KEY], check=True)
    debs = {RELEASES[number].suite: sorted(path.glob("*.deb")) for number, path in packages.items()}
    make_repository(debs, folder / "now", _KEY, home)
    later = {
        suite: [_as_next(deb, folder / "repacked" / suite) for deb in debs_of_suite]
        for suite, debs_of_suite in debs.items()
    }
    make_repository(later, folder / "next", _KEY, home)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return Repository(folder / "now", folder / "next", folder / "keyring.gpg")


def _as_next(deb: Path, folder: Path) -> Path:
    """Repack a package under a higher version."""
    contents = folder / deb.stem
    contents.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "--raw-extract", deb, contents], check=True)
    control = contents / "DEBIAN/control"
    text = re.sub(r"^(Version: \S*?)~", rf"\1{NEXT}~", control.read_text(), flags=re.MULTILINE)
    control.write_text(re.sub(r"(local-agent \(= \S*?)~", rf"\1{NEXT}~", text))
    target = folder / deb.name.replace("~", f"{NEXT}~")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", contents, target], check=True, stdout=subprocess.PIPE)
    shutil.rmtree(contents)
    return target


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: f"debian{release}")
def machine(request: pytest.FixtureRequest, repository: Repository) -> Iterator[Machine]:
    """A plain booted Debian with the repository as an apt source, for all tests of a file one after another."""
    with plain_machine(request.param, repository.now, repository.keyring) as machine:
        machine.run("apt-get -q update", timeout_seconds=120)
        yield machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the machine's journal with a failed test."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.when == "call" and report.failed and isinstance(machine, Machine):
        report.sections.append((f"journal of Debian {machine.release}", machine.journal("-n", "150")))
    return report
