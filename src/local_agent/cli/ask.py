"""What `poke`, `reload`, `drain` and `undrain` share: finding a running agent's state folder and asking it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from local_agent.errors import NotFoundError, UnavailableError
from local_agent.host.reading.agents import state_folders
from local_agent.host.reading.found import found_folders
from local_agent.net import control
from local_agent.plain import printable_lines
from local_agent.settings import load_settings

Command = Callable[..., Any]
_SERVICE_STATE = Path("/var/lib/local-agent")


def agent_options(function: Command) -> Command:
    """Add the flags that say which agent is meant: the function gets `instance` and `state_dir`."""
    instance = click.option(
        "--instance", metavar="NAME", default=None, help="The agent's instance, the part after the @ of its unit."
    )
    state_dir = click.option(
        "--state-dir", metavar="FOLDER", default=None, help="The agent's state folder, where it is no usual one."
    )
    return instance(state_dir(function))


def ask_agent(instance: str | None, state_dir: str | None, what: str) -> str:
    """Ask the agent of an instance to do something, and return its answer, or whatever its user has answer there."""
    try:
        return printable_lines(control.ask(_state_dir(instance, state_dir), what))
    except UnavailableError as error:
        there = [folder.instance for folder in state_folders(os.environ)]
        if instance or state_dir or not there:
            raise
        raise UnavailableError(error.message, hint=f"is it one of these? --instance {', '.join(there)}") from error


def _state_dir(instance: str | None, state_dir: str | None) -> Path:
    if state_dir is None and instance and "/" in instance:
        return _of_another_user(instance)
    given = {"instance": instance, "state_dir": state_dir}
    flags: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    settings = load_settings(flags=flags, environ=os.environ, hostname=socket.gethostname())
    of_service = _SERVICE_STATE / settings.instance
    if state_dir is None and not (settings.state_dir / "runs").is_dir() and of_service.is_dir():
        return of_service
    return settings.state_dir


def _of_another_user(instance: str) -> Path:
    """Return the state folder of an agent that `status` calls USER/NAME. Raise NotFoundError."""
    folders = found_folders(os.geteuid(), state_folders(os.environ))
    for folder in folders:
        if folder.instance == instance:
            return folder.path
    raise NotFoundError(f"no instance {instance!r} is on this host", hint="local-agent status shows those there are")
