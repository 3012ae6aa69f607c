"""local-agent(1) and a page for each command, from what the command line declares."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

import click

from facts import Facts
from local_agent.cli.main import cli
from roff import Page

EXIT_CODES = (
    ("0", "Success; for `local-agent start` an end that was asked for."),
    ("66", "What was named is not there: an instance, a flow run."),
    ("69", "Something outside does not answer now and may later: the agent, the broker, systemd, the API."),
    ("70", "The API refuses, or a fault of local-agent itself, which is then shown as a traceback."),
    ("74", "The state folder cannot be read or written."),
    ("77", "The API does not accept the key, or the key cannot be read."),
    ("78", "A setting or the command line is wrong."),
)

# before EXIT_CODES, in the pages of these commands
_MORE_CODES = {
    "status": ("1", "Something is not well: the table says what."),
    "doctor": ("1", "A check failed: its line says what to do."),
}

_OVERVIEW = """\
`local-agent` takes flow runs from the API of Prefect 1 (Server or Cloud) and runs each on this machine. Every flow run
is a systemd scope, `flow-run-ID.scope`, with a cgroup of its own, in the slice `flowruns-INSTANCE.slice`; its output
is in the journal under the identifier `flow-run-ID`. Restarts, upgrades and crashes of the agent leave flow runs alone,
and their ends are noticed and reported all the same.

Agents run as instances of a template unit, see local-agent@.service(8):

    systemctl enable --now local-agent@prod1

Their settings are in local-agent.toml(5), what they say in local-agent-journal(7).
"""


def pages(facts: Facts) -> Iterator[Page]:
    """Return the pages of all commands."""
    context = click.Context(cli, info_name="local-agent", **cli.context_settings)
    names = cli.list_commands(context)
    seen = [("local-agent", 1), *((f"local-agent-{name}", 1) for name in names), *facts.other_pages]
    yield _overview(facts, context, names, seen)
    for name in names:
        command = cli.get_command(context, name)
        assert command is not None
        yield _command_page(facts, name, command, click.Context(command, info_name=name, parent=context), seen)


def _overview(facts: Facts, context: click.Context, names: list[str], seen: list[tuple[str, int]]) -> Page:
    page = facts.page("local-agent", 1, "run Prefect 1 flow runs as systemd scopes")
    page.synopsis("local-agent [OPTIONS] COMMAND [ARGUMENTS]")
    page.heading("description")
    page.paragraphs(_OVERVIEW)
    page.heading("commands")
    page.items((f"local-agent {name}", f"{_summary(facts, name)} See local-agent-{name}(1).") for name in names)
    page.heading("options")
    page.items(_options(cli, context))
    _ends(page, [("1", "`local-agent status`: something is not well. `local-agent doctor`: a check failed.")])
    page.heading("files")
    page.items(
        (
            ("/etc/local-agent/agent.toml", "Settings of all instances; see local-agent.toml(5)."),
            ("/etc/local-agent/INSTANCE.toml", "Settings of one instance."),
            ("/var/lib/local-agent/INSTANCE", "What an instance remembers of its flow runs."),
            ("/var/lib/local-agent-home", "The home of the user local-agent, where its flow runs start."),
            ("/usr/share/doc/local-agent/examples", "Every setting with its default, and a stricter sandbox."),
        )
    )
    page.see_also(seen)
    return page


def _command_page(
    facts: Facts, name: str, command: click.Command, context: click.Context, seen: list[tuple[str, int]]
) -> Page:
    summary = _summary(facts, name)
    page = facts.page(f"local-agent-{name}", 1, summary[0].lower() + summary[1:].rstrip("."))
    page.synopsis(f"local-agent {name} {' '.join(command.collect_usage_pieces(context))}")
    page.heading("description")
    page.paragraphs(_help(command))
    page.heading("options")
    page.items(_options(command, context))
    _ends(page, [_MORE_CODES[name]] if name in _MORE_CODES else [])
    page.see_also(seen)
    return page


def _summary(facts: Facts, name: str) -> str:
    return facts.summaries[name]


def _help(command: click.Command) -> str:
    """The help as it was written; literal blocks keep their lines."""
    text = inspect.cleandoc(command.help or "")
    return re.sub(r"^\b\n", "", text.replace("\b\n", ""), flags=re.MULTILINE)


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield record[0], record[1] or ""


def _ends(page: Page, more: Iterable[tuple[str, str]]) -> None:
    page.heading("exit status")
    page.items(sorted((*EXIT_CODES, *more), key=lambda code: int(code[0])))
    page.paragraphs("What went wrong is said on standard error, with a line `hint:` that says what to do.")
