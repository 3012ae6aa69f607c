"""What a shell completes beyond words of the command line: flow runs that are alive, and instances of this host.

Read from the file system, where any user may and it takes no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from local_agent.units.names import is_nobodys

_CGROUPS = Path("/sys/fs/cgroup")
_SETTINGS = Path("/etc/local-agent")
_WANTS = Path("/etc/systemd/system")
_SHARED_SETTINGS = "agent"
# A shell puts what is completed into its line as it is: any user can make a cgroup or a file with $(...) in its name
_FLOW_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INSTANCE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def complete_values(command: click.Command, root: Path = Path("/")) -> click.Command:
    """Given a command, have its flow runs and instances completed; return it. `root` is where the files are."""
    for parameter in command.params:
        if parameter.name in ("instance", "setting_instance"):
            _set(parameter, lambda: instances(root))
        elif parameter.name in ("run", "runs"):
            _set(parameter, lambda: flow_runs(root))
    return command


def instances(root: Path) -> Sequence[str]:
    """Return the instances that are configured or enabled."""
    named = {file.stem for file in _under(root, _SETTINGS).glob("*.toml")} - {_SHARED_SETTINGS}
    links = _under(root, _WANTS).glob("*.wants/local-agent@*.service")
    enabled = {link.name.removeprefix("local-agent@").removesuffix(".service") for link in links}
    return sorted(name for name in named | enabled if _INSTANCE.fullmatch(name))


def flow_runs(root: Path) -> Sequence[str]:
    """Return the ids of the flow runs that have a scope now."""
    ids = (
        folder.name.removeprefix("flow-run-").removesuffix(".scope")
        for slices in _flow_run_slices(_under(root, _CGROUPS))
        for folder in slices.glob("flowruns-*.slice/flow-run-*.scope")
    )
    return sorted(found for found in ids if _FLOW_RUN.fullmatch(found) and not is_nobodys(found))


def _flow_run_slices(cgroups: Path) -> Iterator[Path]:
    """The system manager's, and those of users' own managers."""
    yield cgroups / "flowruns.slice"
    yield from cgroups.glob("user.slice/user-*.slice/user@*.service/flowruns.slice")


def _under(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _set(parameter: click.Parameter, values: object) -> None:
    assert callable(values)

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(value) for value in values() if value.startswith(incomplete)]

    # what the constructor's argument shell_complete sets; the declarations stay free of completion, which is rare
    parameter._custom_shell_complete = complete  # noqa: SLF001 - click has no other way once it is made
