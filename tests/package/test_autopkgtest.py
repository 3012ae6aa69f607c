"""debian/tests, as autopkgtest runs them on an installed package. A test that is skipped has failed.

CI runs what it has time for; `make autopkgtest` runs all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from package.conftest import Repository
from roots import RELEASES
from support.debian import RELEASES as BOOTED
from support.plain_debian import plain_machine

ALL = ("smoke", "service", "upgrade", "purge")
WANTED = ALL if os.environ.get("LOCAL_AGENT_TESTS_AUTOPKGTEST") == "all" else ("service", "purge")

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

# Debian 12 has no graphql-core 3: there the API runs from the source, in the environment of the test bed
_SERVER_VENV = "opt/server/venv"


@pytest.mark.parametrize("number", RELEASES)
def test_autopkgtest(packages: Mapping[int, Path], repository: Repository, number: int) -> None:
    def lay_out(layer: Path) -> None:
        (source,) = packages[number].glob("*.tar.xz")
        (layer / "srv/source").mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", layer / "srv/source", "--strip-components=1", "-f", source], check=True)
        if number == 12:
            shutil.copytree(BOOTED[12].root / "opt/local-agent/venv", layer / _SERVER_VENV, symlinks=True)

    options = [f"--test-name={name}" for name in WANTED]
    if number == 12:
        options.append(f"--env=SERVER_PYTHON=/{_SERVER_VENV}/bin/python")
    with plain_machine(number, repository.now, repository.keyring, lay_out) as machine:
        install = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install"
        machine.run(f"{install} autopkgtest", timeout_seconds=300)
        words = [
            "autopkgtest",
            "--no-built-binaries",
            "--ignore-restrictions=isolation-container,breaks-testbed",
            *options,
        ]
        result = machine.run([*words, "/srv/source", "--", "null"], check=False, timeout_seconds=600)
    said = result.stdout + result.stderr
    ends = dict(re.findall(r"^(\S+)\s+(PASS|FAIL|SKIP|FLAKY)\b", said, re.MULTILINE))
    assert ends == dict.fromkeys(WANTED, "PASS"), said[-12000:]
