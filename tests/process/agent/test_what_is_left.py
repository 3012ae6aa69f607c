"""A flow run that leaves behind what its agent may not end: that is said, its end is told, and the agent goes on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_agent import events
from support.agent import SAYS_VERSION, AgentProcess, is_alive
from support.api import Api
from support.api_client import wait_until
from support.users import as_another_user, open_folder

# as-root does what sudo does: what it starts is root's, whoever asked for it
_LEAVES = """
"$FOLDER/as-root" --reuid=0 --regid=0 --clear-groups sleep 3600 >/dev/null 2>&1 &
until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.05; done
echo $! >"$FOLDER/left.part"
mv "$FOLDER/left.part" "$FOLDER/left"
exit 3
"""
_SAYS = events.LEFT_ALIVE.text.partition("{run}")[2].format(left="sleep (PID {pid})")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that another user can reach."""
    with open_folder(0o755) as folder:
        yield folder


@pytest.mark.timeout(180)
def test_what_is_anothers_is_named_and_the_end_is_told(api: Api, shared: Path) -> None:
    user = as_another_user()
    folder = shared / "agent"
    agent = AgentProcess(
        folder,
        api.url,
        environ={"FOLDER": str(folder)},
        python=f"{SAYS_VERSION}\n{_LEAVES}",
        wrapper=("sh", "-c", '"$@"; exit $?', "sh", *user),
    )
    shutil.copy("/usr/bin/setpriv", folder / "as-root")
    (folder / "as-root").chmod(0o4755)
    os.chown(folder, int(user[1].partition("=")[2]), -1)
    run = api.create_flow_run(api.create_flow(agent.label, labels=[agent.label]))
    with agent:
        wait_until((folder / "left").exists, lambda: agent.said)
        left = int((folder / "left").read_text())
        try:
            agent.wait_for(_SAYS.format(pid=left))
            api.wait_for_state(run, "Failed")
            agent.wait_until_forgotten()
            assert is_alive(left)
            assert agent.ask("live") == "0"
        finally:
            os.kill(left, signal.SIGKILL)
