"""A person at `local-agent top`: look, show, read keys, do what they ask."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from local_agent.errors import LocalAgentError
from local_agent.host import actions
from local_agent.host.output.status import read_pressure
from local_agent.host.top.history import Histories
from local_agent.host.top.view import Action, Snapshot, State, chosen_run, frame, pressed

if TYPE_CHECKING:
    from local_agent.host.reading.runs import Run
    from local_agent.host.table import Terminal
    from local_agent.host.view import Host


class Shows(Protocol):
    """What is drawn upon and read from."""

    def show(self, lines: list[str]) -> None:
        """Draw a screen."""

    def keys(self, timeout_seconds: float) -> list[str]:
        """Return the keys that were pressed."""


def look_at(host: Host, histories: Histories, instance: str | None) -> Snapshot:
    """Look at the host once, and note what each run uses."""
    overview = host.overview(instance=instance, ended=0)
    histories.add(overview.runs, time.monotonic())
    return Snapshot(overview.runs, histories, read_pressure(), host.now(), overview.problems)


class TopSession:
    """One person's look, from the first screen to the q."""

    def __init__(self, host: Host, instance: str | None = None) -> None:
        self._host = host
        self._instance = instance
        self._histories = Histories()
        # no question may appear amid the screen
        self._systemctl = actions.Systemctl(("systemctl", "--no-ask-password"))
        self.state = State()

    def look(self) -> None:
        """Look at the host."""
        self._look = look_at(self._host, self._histories, self._instance)

    def wait(self, screen: Shows, delay_seconds: float, terminal: Terminal, height: int) -> None:
        """Show what was seen, and see to the keys until it is time to look again: at once where a key did something."""
        until = time.monotonic() + delay_seconds
        while not self.state.is_over and (left := until - time.monotonic()) > 0:
            screen.show(frame(self._look, self.state, terminal, height))
            acted = [self._press(key) for key in screen.keys(left)]
            if any(acted):
                return

    def _press(self, key: str) -> bool:
        """Do what a key asks for; tell whether something was done to a flow run."""
        self.state, deed = pressed(self.state, key, self._look)
        run = chosen_run(self.state, self._look)
        if deed is not None and run is not None:
            self.state = replace(self.state, message=self._done(deed, run))
            return True
        return False

    def _done(self, deed: Action, run: Run) -> str:
        try:
            if deed is Action.CANCEL:
                return actions.cancel(run, self._host.folders, self._systemctl)
            act = actions.freeze if deed is Action.FREEZE else actions.thaw
            return act(run, self._systemctl)
        except LocalAgentError as error:
            return f"error: {error.message}"
