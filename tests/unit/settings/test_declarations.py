"""Each option is declared once, and nothing of it is missing anywhere."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest

from local_agent.cli.options import start_options
from local_agent.limits import Limits
from local_agent.settings import OPTIONS, Option, Settings
from local_agent.settings.example import example_toml
from local_agent.settings.findings import Findings
from local_agent.settings.model import LIMIT_OPTIONS
from local_agent.settings.places import example_of, file_layer
from unit.settings.conftest import Host

CHECKOUT = Path(__file__).parents[3]
ORIGINAL_FLAGS = {
    "--key": "-k", "--tenant-id": "", "--api": "-a", "--agent-config-id": "", "--name": "-n", "--label": "-l",
    "--env": "-e", "--max-polls": "", "--agent-address": "", "--no-cloud-logs": "", "--log-level": "",
    "--import-path": "-p", "--show-flow-logs": "-f", "--hostname-label": "", "--no-hostname-label": "",
}  # fmt: skip


@click.command()
@start_options
def start(flags: dict[str, object]) -> None:
    """Stands for any command with the settings' flags."""
    raise click.ClickException(repr(flags))


def _spellings() -> set[str]:
    names = [name for parameter in start.params for name in (*parameter.opts, *parameter.secondary_opts)]
    assert len(names) == len(set(names)), "two options share a flag"
    return set(names)


def test_every_flag_of_the_original_is_there() -> None:
    assert set(ORIGINAL_FLAGS) | {short for short in ORIGINAL_FLAGS.values() if short} <= _spellings()


def test_short_forms_belong_to_the_same_options_as_in_the_original() -> None:
    ours = {option.flag: option.short for option in OPTIONS if option.short}
    assert ours == {flag: short for flag, short in ORIGINAL_FLAGS.items() if short}


def test_every_option_has_a_flag_a_variable_and_a_sentence() -> None:
    variables = [option.variable for option in OPTIONS]
    assert len(variables) == len(set(variables))
    for option in OPTIONS:
        assert option.flag in _spellings() or option.key.startswith("ceilings."), option.key
        assert re.fullmatch(r"LOCAL_AGENT_[A-Z_]+", option.variable)
        assert option.help.endswith(".")
        assert option.help[0].isupper()


def test_every_attribute_is_an_option_or_says_something_about_them() -> None:
    about = {"limits", "ceilings", "hostname", "files", "sources", "warnings"}
    attributes = {item.name for item in fields(Settings)} - about
    assert len(attributes) == len([option for option in OPTIONS if "." not in option.key])
    assert set(LIMIT_OPTIONS) == {item.name for item in fields(Limits)}


def test_every_option_is_reachable_by_its_declaration(host: Host) -> None:
    settings = host.load()
    assert set(settings.sources) == {option.key for option in OPTIONS}
    for option in OPTIONS:
        settings.get(option)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_the_example_of_an_option_is_accepted_everywhere(option: Option) -> None:
    text = f"value = {example_of(option)}"
    value = tomllib.loads(text)["value"]
    assert type(value) in option.kind.toml_types
    option.kind.parse(value)
    if not isinstance(value, list | dict):
        option.kind.parse(str(value).lower() if isinstance(value, bool) else str(value))


def test_the_example_file_holds_every_option_and_is_all_comments(tmp_path: Path) -> None:
    text = example_toml()
    assert all(line == "" or line.startswith("#") for line in text.splitlines())
    path = tmp_path / "agent.toml"
    path.write_text(re.sub(r"^#(?! |$)", "", text, flags=re.MULTILINE))
    findings = Findings()
    layer = file_layer(path, findings)
    assert findings.problems == []
    assert layer is not None
    assert set(layer) == {option.key for option in OPTIONS if option.in_files}


def test_the_example_file_is_up_to_date() -> None:
    written = (CHECKOUT / "packaging/examples/agent.toml").read_text()
    assert written == example_toml(), (
        "run: PYTHONPATH=src python -m local_agent.settings.example > packaging/examples/agent.toml"
    )


def test_click_hands_over_only_what_was_given() -> None:
    with pytest.raises(click.ClickException) as caught:
        start.main(["-l", "a", "-l", "b,c", "-e", "A=1", "--no-hostname-label", "-f"], standalone_mode=False)
    assert caught.value.message == repr(
        {"labels": ("a", "b,c"), "hostname_label": False, "env": ("A=1",), "show_flow_logs": True}
    )
