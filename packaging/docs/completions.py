"""Completions for bash, zsh and fish, as click makes them: the program itself says what can come next."""

from __future__ import annotations

from collections.abc import Iterator

from click.shell_completion import BashComplete, FishComplete, ZshComplete

from local_agent.cli.main import cli

_FILES = {"local-agent.bash": BashComplete, "_local-agent": ZshComplete, "local-agent.fish": FishComplete}


def scripts() -> Iterator[tuple[str, str]]:
    """Return each shell's file name and script."""
    for name, kind in _FILES.items():
        complete = kind(cli, {}, "local-agent", "_LOCAL_AGENT_COMPLETE")
        yield name, f"{complete.source_template % complete.source_vars()}\n".lstrip("\n")
