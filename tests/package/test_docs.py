"""Manual pages and completions, made from the declarations that the program itself uses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

import make_docs
from local_agent.cli.main import cli
from local_agent.errors import ConfigError, CredentialError, NotFoundError, StateError, UnavailableError
from local_agent.settings.model import OPTIONS
from roots import CHECKOUT, RELEASES

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


def test_words_are_spelled_as_others_spell_them(docs: Path) -> None:
    """codespell knows the ways in which words are misspelled, in plain text and in what else people read."""
    texts = [*(docs / "man").iterdir(), *CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]
    texts += [CHECKOUT / "debian/local-agent.README.Debian", *(CHECKOUT / "packaging/examples").iterdir()]
    lines = [f"{text.name}: {line}" for text in texts for line in _words(text).splitlines()]
    check = ["chroot", str(RELEASES[13].path), "codespell", "--ignore-words-list=debians", "-"]
    result = subprocess.run(check, input="\n".join(lines), capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"


def _words(text: Path) -> str:
    """Return what people read of a file: of a manual page, without the escapes that stand against words."""
    return re.sub(r"\\f[BIR]", " ", _plain(text))


def test_pages_say_how_commands_end(docs: Path) -> None:
    for name in ("local-agent", "local-agent-status", "local-agent-doctor"):
        assert "\n.B 1\n" in _plain(docs / f"man/{name}.1")
    assert "\n.B 1\n" not in _plain(docs / "man/local-agent-ps.1")
    for error in (ConfigError, CredentialError, UnavailableError, NotFoundError, StateError):
        assert f"\n.B {error.exit_code}\n" in _plain(docs / "man/local-agent.1")


def test_completions_are_for_their_shells(docs: Path) -> None:
    folder = docs / "completions"
    subprocess.run(["bash", "-n", folder / "local-agent.bash"], check=True)
    assert (folder / "_local-agent").read_text().startswith("#compdef local-agent")
    assert "complete --no-files --command local-agent" in (folder / "local-agent.fish").read_text()
