"""What a shell completes beyond words of the command line: flow runs that are alive, and instances of this host.

Read from the file system, where any user may and it takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from local_agent.units.names import SCOPES, SERVICES, flow_run_in, instance_served_by, is_instance

_CGROUPS = Path("/sys/fs/cgroup")
_SETTINGS = Path("/etc/local-agent")
_WANTS = Path("/etc/systemd/system")
_SHARED_SETTINGS = "agent"
# A shell puts what is completed into its line as it is: any user can make a cgroup or a file with $(...) in its name


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
    links = _under(root, _WANTS).glob(f"*.wants/{SERVICES}")
    enabled = {instance_served_by(link.name) for link in links}
    return sorted(name for name in named | enabled if is_instance(name))


def flow_runs(root: Path) -> Sequence[str]:
    """Return the ids of the flow runs that have a scope now."""
    ids = (
        flow_run_in(folder.name)
        for slices in _flow_run_slices(_under(root, _CGROUPS))
        for folder in slices.glob(f"flowruns-*.slice/{SCOPES}")
    )
    return sorted(found for found in ids if found)


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
