"""The `local-agent` command: finds the command's file, and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from local_agent import __version__
from local_agent.aio.outbox import write_within
from local_agent.errors import ConfigError, LocalAgentError, StateError
from local_agent.plain import printable_lines, without_credentials

# how shells ask what can come next
_COMPLETING = "_LOCAL_AGENT_COMPLETE"
_READ_SECONDS = 3.0
_STANDARD_ERROR = 2
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_COMMANDS = {
    "start": "Take flow runs from the Prefect API and run them on this machine.",
    "config": "Show every setting and where it came from.",
    "install": "Print the units, or a supervisord.conf, that run an agent as a service.",
    "ps": "List the flow runs of this host.",
    "doctor": "Look whether this host can do the job, and say what fixes what cannot.",
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

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"local_agent.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        if _COMPLETING in os.environ:
            from local_agent.cli.completing import complete_values

            return complete_values(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in _COMMANDS and not word.startswith("-") and not ctx.resilient_parsing:
            import difflib  # here, because it is rarely needed

            likely = difflib.get_close_matches(word, _COMMANDS, 1)
            hint = f"did you mean {likely[0]}?" if likely else "local-agent --help lists the commands"
            raise ConfigError(f"there is no command {word!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="local-agent")
def cli() -> None:
    """Run Prefect flow runs on this machine, the systemd way."""


def report_error(error: LocalAgentError) -> None:
    """Given an expected failure, print it for people on standard error: what failed, then what to do.

    Where nobody reads, an agent ends all the same: its service waits to be started again.
    """
    problems = error.problems if isinstance(error, ConfigError) else ()
    hint = [f"hint: {error.hint}"] if error.hint else []
    lines = [f"error: {error.message}", *(f"  {problem}" for problem in problems), *hint]
    # it may quote what another user wrote: an agent's answer, a file, an address
    shown = (printable_lines(without_credentials(line)) for line in lines)
    write_within(_READ_SECONDS, _STANDARD_ERROR, "".join(f"{line}\n" for line in shown))


def _wrong_usage(error: click.UsageError) -> ConfigError:
    """Say in our own form what is wrong with a command line."""
    path = error.ctx.command_path if error.ctx else "local-agent"
    return ConfigError(error.format_message().rstrip("."), hint=f"{path} --help tells what it takes")


def _end_output(reason: str | None) -> NoReturn:
    """End where standard output takes no more, without a word about what is still in its buffer."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    report_error(StateError(f"cannot write the output: {reason}", hint="df -h shows how full the disks are"))
    sys.exit(StateError.exit_code)


def _open_what_is_closed() -> None:
    """Where a shell said >&- Python has no stream at all."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives


def main() -> NoReturn:
    """Run the command line and exit with its code. A traceback is only ever our own bug."""
    _open_what_is_closed()
    # where whoever started this ignores it, the kernel keeps no exit status of the processes that are started here
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        code = cli.main(prog_name="local-agent", standalone_mode=False)
    except LocalAgentError as error:
        report_error(error)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        report_error(_wrong_usage(error))
        sys.exit(ConfigError.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        _end_output(error.strerror)
    sys.exit(code if isinstance(code, int) else 0)
