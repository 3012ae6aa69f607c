"""What a person can ask of a running agent by way of its control socket: how it stands, and to cancel a flow run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent import __version__
from local_agent.errors import StateError
from local_agent.plain import shown_url
from local_agent.report import AgentReport, ApiReport, RunReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from local_agent.agent.admission import Admission
    from local_agent.agent.flow_run import Live, RunLifecycle
    from local_agent.agent.loop import Agent
    from local_agent.agent.reachability import Reachability
    from local_agent.backends import Backend
    from local_agent.settings import Settings

FORMAT = 2


@dataclass(frozen=True)
class Operations:
    """Answers for one agent; everything in it is asked on the agent's own loop."""

    agent: Agent
    lifecycle: RunLifecycle
    backend: Backend
    admission: Admission
    reachability: Reachability
    settings: Callable[[], Settings]
    launcher: str

    def commands(self) -> Mapping[str, Callable[[], Awaitable[str]]]:
        """Return what can be asked of the agent as a whole."""
        return {"inspect": self._inspect}

    def run_commands(self) -> Mapping[str, Callable[[str], Awaitable[str]]]:
        """Return what can be asked about one flow run, given its id."""
        return {"cancel": self._cancel}

    async def _inspect(self) -> str:
        return json.dumps(self.report().to_json())

    def report(self) -> AgentReport:
        """Return how the agent stands."""
        settings = self.settings()
        return AgentReport(
            instance=settings.instance,
            version=__version__,
            name=settings.name,
            labels=tuple(settings.effective_labels),
            launcher=self.launcher,
            ends_with=self.agent.ends_with,
            api=self._api(settings.api),
            slots_limit=settings.limit,
            slots_taken=self.admission.held,
            slots_free=self.admission.free(),
            draining=self.admission.draining,
            takes_none_because=self.agent.paused_for,
            unfit_because=self.agent.unfit_because,
            runs=tuple(self._run(live) for live in list(self.lifecycle.live.values())),
        )

    def _api(self, url: str) -> ApiReport:
        lost = self.reachability.lost_for_seconds
        return ApiReport(
            url=shown_url(url),
            reachable=lost is None,
            for_seconds=self.reachability.reachable_for_seconds if lost is None else lost,
            reason=self.reachability.reason,
            answered_seconds_ago=self.reachability.answered_seconds_ago,
            problem=self.agent.api_problem,
            clock_ahead_seconds=self.backend.clock_ahead_seconds,
        )

    def _run(self, live: Live) -> RunReport:
        record = live.record
        state = self.agent.api_states().get(record.id)
        return RunReport(
            id=record.id,
            name=record.name,
            flow_name=record.flow_name,
            where=live.process.where,
            since=record.claimed_at,
            api_state=state.value if state else "",
        )

    async def _cancel(self, flow_run_id: str) -> str:
        """Cancel at the API: the run's own process has the first chance to end itself, then this agent ends it."""
        if flow_run_id not in self.lifecycle.live and flow_run_id not in self.lifecycle.launching:
            raise StateError(f"flow run {flow_run_id} does not run under this agent", hint="local-agent ps -a")
        state = await self.backend.cancel(flow_run_id)
        self.backend.log(flow_run_id, "Cancelled with `local-agent cancel` on the host where it runs")
        return state
