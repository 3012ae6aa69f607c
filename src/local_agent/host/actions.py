"""What a person does to flow runs of this host: cancel, stop, freeze, thaw, new limits.

It goes through systemctl, so that whoever may do so with systemctl may do so here (root, or what polkit allows), and
through the agent's control socket, which is its user's and root's.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.errors import LocalAgentError, ManagerUnreachableError, NotFoundError, UnavailableError
from local_agent.net import control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_agent.host.reading.agents import StateFolder
    from local_agent.host.reading.runs import Run

_STOP_SECONDS = 120.0  # longer than systemd itself gives a scope to end
_CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Systemctl:
    """systemctl; `command` is what is run."""

    command: tuple[str, ...] = ("systemctl",)

    def __call__(self, run: Run, words: Sequence[str]) -> None:
        """Do something to the scope of a run. Raise ManagerUnreachableError with systemctl's own words."""
        if not run.unit:
            raise NotFoundError(
                f"flow run {run.label} has no scope: it is {run.state}, as a plain process or not yet in one",
                hint=f"local-agent logs {run.id[:8]} tells more",
            )
        user = ["--user"] if run.manager == "user" else []
        verb, *more = words
        try:
            done = subprocess.run(
                [*self.command, *user, "--quiet", "--runtime", verb, run.unit, *more],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_STOP_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ManagerUnreachableError(f"systemctl {verb} {run.unit} did not end: {error}") from error
        if done.returncode != 0:
            reason = done.stderr.strip().replace("\n", "; ") or f"exit code {done.returncode}"
            raise ManagerUnreachableError(f"systemctl {verb} {run.unit}: {reason}", hint=_hint(run))


def _hint(run: Run) -> str:
    may = run.manager == "user" or os.geteuid() == 0
    return f"systemctl status {run.unit}" if may else "run this as root"


def freeze(run: Run, systemctl: Systemctl) -> str:
    """Stop a run's processes where they are; return what was done."""
    systemctl(run, ["freeze"])
    return f"{run.label} is frozen; local-agent thaw {run.id[:8]} lets it go on"


def thaw(run: Run, systemctl: Systemctl) -> str:
    """Let a frozen run go on; return what was done."""
    systemctl(run, ["thaw"])
    return f"{run.label} goes on"


def set_limits(run: Run, properties: Sequence[str], systemctl: Systemctl) -> str:
    """Give a running run other limits, until it ends; return what was done."""
    systemctl(run, ["set-property", *properties])
    return f"{run.label}: {', '.join(properties)}"


def stop(run: Run, systemctl: Systemctl) -> str:
    """End everything of a run here and now; return what was done."""
    if run.state == "frozen":
        systemctl(run, ["thaw"])  # systemd 257 stops no frozen unit
    systemctl(run, ["stop"])
    return f"{run.label} is stopped; its agent reports it to the API as {_CANCELLED}"


def cancel(run: Run, folders: Sequence[StateFolder], systemctl: Systemctl) -> str:
    """Cancel a run at the API, by way of its agent, or stop it where no agent answers; return what was done.

    Raise UnavailableError where the agent may not be asked, or cannot reach the API.
    """
    folder = next((folder for folder in folders if folder.instance == run.instance), None)
    if folder is not None and not os.access(folder.path, os.X_OK):
        raise UnavailableError(f"this user may not speak to the agent of {run.instance}", hint="run this as root")
    if run.state == "frozen":
        systemctl(run, ["thaw"])  # a frozen process cannot end itself, and systemd 257 stops no frozen unit
    if folder is None:
        return _stop_without_agent(run, systemctl)
    try:
        state = control.ask(folder.path, "cancel", run.id)
    except UnavailableError:
        return _stop_without_agent(run, systemctl)
    except LocalAgentError as error:
        raise UnavailableError(
            f"{run.label} is not cancelled: {error.message}",
            hint=f"local-agent cancel --stop {run.id[:8]} ends it here and now; the API learns of it from the agent",
        ) from error
    if state == _CANCELLED:
        return f"{run.label} is cancelled"
    return f"{run.label} is {state} at the API: it ends itself now, or else its agent ends it"


def _stop_without_agent(run: Run, systemctl: Systemctl) -> str:
    return f"{stop(run, systemctl)} at its next start: no agent of {run.instance or 'its instance'} answers now"
