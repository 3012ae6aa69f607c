"""Manual pages and completions, made from the declarations that the program itself uses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

import make_docs
from local_agent.cli.main import cli
from local_agent.settings.model import OPTIONS
from roots import RELEASES

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, made once."""
    folder = tmp_path_factory.mktemp("docs")
    make_docs.main(folder)
    return folder


def _plain(page: Path) -> str:
    return page.read_text().replace("\\-", "-")


def test_pages_are_right_for_mandoc(docs: Path) -> None:
    for page in sorted((docs / "man").iterdir()):
        lint = ["chroot", str(RELEASES[13].path), "mandoc", "-T", "lint", "-W", "warning"]
        result = subprocess.run(lint, input=page.read_text(), capture_output=True, text=True)
        assert result.returncode == 0, f"{page.name}: {result.stdout}{result.stderr}"


def test_there_is_a_page_for_each_command(docs: Path) -> None:
    names = cli.list_commands(click.Context(cli))
    assert {f"local-agent-{name}.1" for name in names} <= {page.name for page in (docs / "man").iterdir()}


def test_every_flag_and_key_is_in_the_pages(docs: Path) -> None:
    start = _plain(docs / "man/local-agent-start.1")
    settings = _plain(docs / "man/local-agent.toml.5")
    for option in OPTIONS:
        assert option.flag in start
        assert not option.in_files or f".B {option.key.rpartition('.')[2]} =" in settings
        assert not option.in_files or option.variable in settings


def test_completions_are_for_their_shells(docs: Path) -> None:
    folder = docs / "completions"
    subprocess.run(["bash", "-n", folder / "local-agent.bash"], check=True)
    assert (folder / "_local-agent").read_text().startswith("#compdef local-agent")
    assert "complete --no-files --command local-agent" in (folder / "local-agent.fish").read_text()
