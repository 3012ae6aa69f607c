"""`local-agent start`."""

from __future__ import annotations

import os
import socket

import click

from local_agent.cli.options import start_options
from local_agent.settings import Settings, load_settings


@click.command("start")
@start_options
def command(flags: dict[str, object]) -> None:
    """Take flow runs that carry this agent's labels from the Prefect API and run them on this machine.

    SIGTERM and SIGINT stop the agent and leave its flow runs running: the next start takes them up again.
    SIGHUP reads the settings again, SIGUSR1 polls at once.

    Exit codes: 0 when it was stopped; 74 where its state folder cannot be used; 77 where the API does not accept the
    key; 78 where a setting is wrong. An API that is out of reach ends no agent.
    """
    from local_agent import app
    from local_agent.linux import dumps
    from local_agent.service.rival import refuse_beside_a_service

    def read() -> Settings:
        return load_settings(flags=flags, environ=os.environ, hostname=socket.gethostname())

    dumps.forbid()  # before it has a key
    settings = read()
    if settings.is_named:
        refuse_beside_a_service(settings.instance)
    app.run(settings, dict(os.environ), read)
