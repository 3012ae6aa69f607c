"""The `local-agent` command: finds the command's file, and turns errors into words and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from local_agent import __version__
from local_agent.errors import ConfigError, LocalAgentError

# how shells ask what can come next
_COMPLETING = "_LOCAL_AGENT_COMPLETE"
_COMMANDS = {
    "start": "Take flow runs from the Prefect API and run them on this machine.",
    "config": "Show every setting and where it came from.",
    "install": "Print the units, or a supervisord.conf, that run an agent as a service.",
    "ps": "List the flow runs of this host.",
    "doctor": "Look whether this host can do the job, and say what mends what cannot.",
    "cancel": "Cancel flow runs of this host.",
    "freeze": "Stop the processes of flow runs where they are.",
    "thaw": "Let frozen flow runs go on.",
    "set": "Give a flow run other limits while it runs.",
    "status": "Show the instances of this host and whether all is well.",
    "top": "Show what the flow runs of this host use, as they use it.",
    "logs": "Show what a flow run wrote, and what its agent did about it.",
    "poke": "Make a running agent poll now.",
    "reload": "Make a running agent read its settings again.",
    "drain": "Make a running agent take no further flow runs.",
    "undrain": "Make a drained agent take flow runs again.",
    "server": "Run the embedded Prefect 1 API, for one machine and for trying things out.",
}


class _LazyGroup(click.Group):
    """Imports only the file of the command that is run: the agent starts in a third of a second because of it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"local_agent.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        if _COMPLETING in os.environ:
            from local_agent.cli.completing import complete_values

            return complete_values(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="local-agent")
def cli() -> None:
    """Run Prefect flow runs on this machine, the systemd way."""


def report_error(error: LocalAgentError) -> None:
    """Given an expected failure, print it for people on standard error: what failed, then what to do."""
    click.echo(f"error: {error.message}", err=True)
    if isinstance(error, ConfigError):
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def main() -> NoReturn:
    """Run the command line and exit with its code. A traceback is only ever our own bug."""
    try:
        code = cli.main(prog_name="local-agent", standalone_mode=False)
    except LocalAgentError as error:
        report_error(error)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(ConfigError.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
