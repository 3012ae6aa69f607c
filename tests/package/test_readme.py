"""What README.md tells people to type on a new server, typed on plain booted Debians: its own lines, one by one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from build import stage
from roots import CHECKOUT, RELEASES
from support.machine import Machine
from support.plain_debian import lonely_machine

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(900)]

_SECTION = re.compile(r"^## On a server.*?\n(.*?)^## ", re.DOTALL | re.MULTILINE)
# typed after the first where the package of the API is
_SHARED = re.compile(r"^## The small API where other users.*?\n(.*?)^## ", re.DOTALL | re.MULTILINE)
_WITH_SHARED = 13
# indented, up to the next line that is not
_BLOCK = re.compile(r"\n\n((?:    .*\n|\n(?=    ))+)")
_RELEASE = re.compile(r"On Debian (\d+):\s*$")
_HOME = "root/new"


def typed(readme: str, number: int, which: re.Pattern[str] = _SECTION) -> list[str]:
    """Given README.md, return what it tells people to type on a release, block by block."""
    section = which.search(readme)
    assert section is not None, "README.md has no such section"
    blocks = []
    for block in _BLOCK.finditer(section[1]):
        release = _RELEASE.search(section[1][: block.start()])
        if release is None or int(release[1]) == number:
            blocks.append(re.sub(r"^    ", "", block[1], flags=re.MULTILINE))
    return blocks


def test_each_release_has_its_lines() -> None:
    lines = {number: "".join(typed((CHECKOUT / "README.md").read_text(), number)) for number in RELEASES}
    assert "local-agent-server_*" in lines[13]
    assert "local-agent-server_*" not in lines[12]
    assert "[server]" in lines[12]
    assert "[server]" not in lines[13]
    for text in lines.values():
        assert "systemctl enable --now local-agent@prod1" in text
        assert "prefect run " in text


@pytest.mark.parametrize("number", RELEASES)
def test_whoever_types_it_has_a_flow_run(packages: Mapping[int, Path], number: int) -> None:
    def lay_out(layer: Path) -> None:
        (layer / _HOME).mkdir(parents=True)
        for package in packages[number].glob("*.deb"):
            shutil.copy(package, layer / _HOME)
        stage(layer / _HOME / "local-agent", "")

    with lonely_machine(number, lay_out) as machine:
        said = [_said(machine, block) for block in typed((CHECKOUT / "README.md").read_text(), number)]
        assert "Success" in said[-1], said[-1]
        (run,) = json.loads(machine.run("local-agent ps -a --json").stdout)["runs"]
        user = machine.run("id -u local-agent").stdout.strip()
        output = machine.journal("-t", f"flow-run-{run['id']}", f"_UID={user}", "-o", "cat")
        assert "hello from a scope of its own" in output
        if number == _WITH_SHARED:
            _type_for_a_shared_machine(machine)


def _type_for_a_shared_machine(machine: Machine) -> None:
    blocks = typed((CHECKOUT / "README.md").read_text(), _WITH_SHARED, _SHARED)
    assert "Success" in [_said(machine, block) for block in blocks][-1]
    run = blocks[-1].splitlines()[-1]
    assert "needs an API key" in _said(machine, f"{run} || true")


def _said(machine: Machine, block: str) -> str:
    """Type a block and return what is on the screen then."""
    result = machine.run(["bash", "-c", f"cd /{_HOME}\nset -e\n{block}"], timeout_seconds=300)
    return result.stdout + result.stderr
