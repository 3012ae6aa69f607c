"""A real engine of Prefect 3 or 2.20 that runs one flow run of a real server, started as our agent starts its child.

with Engine(server, run, tmp_path) as engine:
    engine.wait_for_note("napping")
    engine.cancel()
    assert engine.ended() == 0
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_agent.backends.prefect3.access import Access
from local_agent.backends.prefect3.api import Api
from local_agent.backends.prefect3.child import HOOKS, Children
from local_agent.backends.prefect3.detail import Detail
from local_agent.model import Child, FlowRun
from support.prefect3_server import Prefect3Server, server_environment, wait_until
from support.prefect3_venv import NEWEST, prefect3_python
from support.samples import settings

FLOWS = Path(__file__).with_name("prefect3_flows.py")
_END_SECONDS = 90.0


def deployed(
    server: Prefect3Server,
    flow: str,
    notes: Path,
    *,
    pool: str,
    **more: Any,  # noqa: ANN401 - JSON is of any type
) -> str:
    """Make a deployment of a flow of ours, whose notes go to that file, and return its id."""
    where: dict[str, Any] = {"entrypoint": f"{FLOWS.name}:{flow}", "path": str(FLOWS.parent), **more}
    variables = {**where.pop("job_variables", {})}
    variables["env"] = {"FLOW_NOTES": str(notes), **variables.get("env", {})}
    return server.create_deployment(f"{flow}-{uuid.uuid4().hex[:8]}", pool=pool, job_variables=variables, **where)


class Engine:
    """The process of one flow run, from PENDING on."""

    def __init__(self, server: Prefect3Server, run: str, folder: Path, version: str = NEWEST) -> None:
        self.notes_file = folder / "notes"
        self._server = server
        self._run = run
        self._folder = folder
        self._version = version
        self._control = folder / f"{run}.control"
        self._scratch = folder / f"{run}.scratch"
        self._said = folder / f"{run}.out"

    def __enter__(self) -> Self:
        self._server.set_state(self._run, "PENDING", name="Pending")
        child = self._child()
        os.mkfifo(self._control, 0o600)
        self._scratch.mkdir()
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                child.argv,
                env={**child.env, "LOCAL_AGENT_CONTROL": str(self._control)},
                cwd=child.working_dir or self._scratch,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(_END_SECONDS)

    def _child(self) -> Child:
        facts = self._server.run(self._run)
        detail = Detail(facts["flow_id"], facts["deployment_id"], facts["job_variables"] or {})
        run = FlowRun(self._run, facts["name"], "flow", datetime.now(UTC), 0.0, detail)
        template = self._server.ask("GET", f"/work_pools/{facts['work_pool_name']}")["base_job_template"]
        home = {name: text for name, text in server_environment(self._folder).items() if "DATABASE" not in name}
        # engines send their logs at their end, and that is the only way in which hooks can be seen to have run
        home.pop("PREFECT_LOGGING_TO_API_ENABLED", None)

        async def made() -> Child:
            api = Api(Access(self._server.url))
            python = prefect3_python(self._version)
            children = Children(api, api_access, "lab on host1", lambda: settings(python=python), home)
            try:
                return await children.child(run, template)
            finally:
                api.close()

        api_access = Access(self._server.url)
        return asyncio.run(made())

    def run_hooks(self) -> int:
        """Run what runs the hooks of a flow run that has ended, and return its exit code."""
        env = {**self._child().env, "LOCAL_AGENT_CONTROL": ""}
        with self._said.open("ab") as said:
            command = [prefect3_python(self._version), HOOKS]
            return subprocess.run(command, env=env, cwd=self._scratch, stdout=said, stderr=said, check=False).returncode

    @property
    def said(self) -> str:
        """What the engine has printed."""
        return self._said.read_text(errors="replace")

    @property
    def notes(self) -> Sequence[str]:
        """What the flow and its hooks have written down."""
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    def noted(self, word: str) -> Sequence[str]:
        """Return the notes that begin with a word."""
        return [line for line in self.notes if line.split(" ")[0] == word]

    def wait_for_note(self, word: str) -> str:
        """Wait until the flow has written such a note, and return it. Raise AssertionError where it ends before."""

        def look() -> str:
            assert self.process.poll() is None or self.noted(word), self.said[-3000:]
            return next(iter(self.noted(word)), "")

        return str(wait_until(look, lambda: self.said[-3000:], _END_SECONDS))

    def cancel(self) -> None:
        """Cancel the run at the API, and tell its process, as an agent does that has seen it."""
        self._server.set_state(self._run, "CANCELLING", name="Cancelling")
        self.interrupt()

    def interrupt(self) -> None:
        """Tell the process that its run is cancelled."""
        pipe = os.open(self._control, os.O_WRONLY | os.O_NONBLOCK)
        os.write(pipe, b"c")
        os.close(pipe)

    def ended(self) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the engine goes on; it said:\n{self.said[-3000:]}") from None
