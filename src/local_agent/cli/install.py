"""`local-agent install`: print or write what runs an agent as a service."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from local_agent.cli.options import start_options
from local_agent.install.files import File, write_files
from local_agent.install.plan import Plan, make_plan
from local_agent.install.render import supervisord_files, system_files, user_files

SUPERVISORD, SYSTEMD = "supervisord", "systemd"


@click.command()
@click.argument("what", type=click.Choice([SUPERVISORD, SYSTEMD]), required=False)
@click.option("--user", "for_user", is_flag=True, help="With systemd: a unit of this user's own manager.")
@click.option("--output", metavar="FOLDER", help="Write files into this folder instead of printing them.")
@click.option("--force", is_flag=True, help="With --output: replace files that are there.")
@start_options
def command(*, what: str | None, for_user: bool, output: str | None, force: bool, flags: Mapping[str, object]) -> None:
    """Print, or write, what runs an agent with these options as a service.

    `supervisord`, which is what is made if neither is named, is an example supervisord.conf. `systemd` is an instance
    of the packaged unit local-agent@.service: its settings, its key, a drop-in; with --user it is a unit of this user.
    Below --output these have their full paths, so that `--output /` installs them.

    Takes every option of `start`.

    Exit codes: 0; 73 where a file is there already or cannot be written; 78 where an option is wrong.
    """
    if for_user and what != SYSTEMD:
        raise click.UsageError("--user goes with systemd: local-agent install systemd --user")
    kind = what or SUPERVISORD
    plan = make_plan(flags, how_called(sys.argv[0]))
    folder = Path(output).absolute() if output else None
    files = _files(plan, kind, folder, for_user=for_user)
    if folder is None:
        _print(files)
    else:
        root = folder if kind == SYSTEMD else Path("/")  # for supervisord the folder is part of the paths already
        for path in write_files(files, root, force=force):
            click.echo(path)
    if what is None:
        click.echo("hint: `local-agent install systemd` makes an instance of the systemd unit instead", err=True)
    if plan.key:
        _speak_of_key([file.path for file in files if file.is_secret], is_written=folder is not None)
    if kind == SYSTEMD:
        systemctl = "systemctl --user" if for_user else "systemctl"
        click.echo(f"hint: {systemctl} daemon-reload && {systemctl} enable --now local-agent@{plan.instance}", err=True)


def how_called(argv0: str) -> Sequence[str]:
    """Given how this program was called, return the words that call it from anywhere."""
    path = shutil.which(argv0)
    if path and Path(path).name == "local-agent":
        return (str(Path(path).absolute()),)
    return (sys.executable, "-m", "local_agent")


def _files(plan: Plan, what: str, folder: Path | None, *, for_user: bool) -> list[File]:
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if what == SUPERVISORD:
        usual = Path("/etc/local-agent") if os.geteuid() == 0 else config_home / "local-agent"
        return supervisord_files(plan, folder or usual)
    return user_files(plan, config_home) if for_user else system_files(plan)


def _print(files: Sequence[File]) -> None:
    """One file is printed as it is; several with their paths between them. A key is never printed."""
    shown = [file for file in files if not file.is_secret]
    for file in shown:
        if len(shown) > 1:
            click.echo(f"# {file.title}")
        click.echo(file.text, nl=len(shown) > 1)


def _speak_of_key(paths: Sequence[Path], *, is_written: bool) -> None:
    click.echo("warning: --key: other users of this machine can read the key in the list of processes", err=True)
    if not is_written:
        for path in paths:
            click.echo(f"hint: the key is not printed; write it into {path}, mode 0600", err=True)
