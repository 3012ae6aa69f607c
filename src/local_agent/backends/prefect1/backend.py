"""The Prefect 1 API as the agent's Backend: puts together what the other files of this folder do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from local_agent.backends import QueuePage
from local_agent.backends.prefect1 import child, parse, queries, states
from local_agent.backends.prefect1.claims import Check, Claims
from local_agent.backends.prefect1.ends import Ends, lock_is_over
from local_agent.backends.prefect1.fields import WrongFieldError, get_list, get_object, get_str, get_time, within
from local_agent.backends.prefect1.logs import RunLogs
from local_agent.backends.prefect1.writer import PAGE, StateWriter, rows
from local_agent.errors import ApiUnreachableError, CredentialError, LaunchError
from local_agent.model import Outcome, RunView

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from local_agent.backends.prefect1.transport import Answer, Transport
    from local_agent.clock import Clock
    from local_agent.model import Child, Claim, CrashPolicy, End, FlowRun, Record
    from local_agent.settings import Settings

_Value = TypeVar("_Value")

_DUE_SINCE = timedelta(seconds=3)  # a task run due for less is still its own process's business
_RUNNABLE = frozenset({"", "LocalRun", "UniversalRun"})
_AGENT_TYPE = "LocalAgent"


class Prefect1Backend:
    """Fulfils `Backend`. `settings` returns the settings in force: labels and env may change at a reload."""

    def __init__(
        self,
        transport: Transport,
        settings: Callable[[], Settings],
        environ: Mapping[str, str],
        clock: Clock,
    ) -> None:
        now = settings()
        self._transport = transport
        self._settings = settings
        self._environ = environ
        self._clock = clock
        self._tenant_id = now.tenant_id or ""
        self._writer = StateWriter(transport, clock.monotonic)
        self._claims = Claims(
            transport,
            self._writer,
            clock,
            timeout_seconds=now.request_timeout_seconds,
            check=Check(now.claim_check),
        )
        self._ends = Ends(transport, clock, timeout_seconds=now.request_timeout_seconds)
        self._logs = RunLogs(transport, clock, now.name)

    async def connect(self) -> None:
        """Learn the tenant, register this agent, say hello."""
        settings = self._settings()
        self._transport.use_key(settings.api_key.reveal() if settings.api_key else "")
        if not self._tenant_id:
            self._tenant_id = await self._ask_tenant(has_key=bool(settings.api_key))
        if settings.api_key:
            self._transport.use_tenant(self._tenant_id)
        agent_id = await self._one(
            queries.REGISTER_AGENT,
            {
                "type": _AGENT_TYPE,
                "name": settings.name,
                "labels": list(settings.effective_labels),
                "tenant_id": self._tenant_id,
                "agent_config_id": settings.agent_config_id or None,
            },
            "register_agent",
            lambda row: get_str(row, "id"),
        )
        self._transport.use_agent_id(agent_id)
        await self._transport.ask(queries.HELLO)
        if settings.agent_config_id:
            await self._transport.ask(queries.agent_config(settings.agent_config_id))

    async def _ask_tenant(self, *, has_key: bool) -> str:
        if has_key:
            answer = await self._transport.ask(queries.AUTH_INFO)
            tenant = _root(answer, "auth_info", lambda row: get_str(row, "tenant_id", ""))
            if not tenant:
                raise CredentialError(
                    "the API key belongs to no tenant",
                    hint="set `tenant_id`, or use a key of Prefect 1.0 or later",
                )
            return tenant
        answer = await self._transport.ask(queries.TENANT)
        tenants = rows(answer, "tenant", lambda row: get_str(row, "id"))
        if not tenants:
            raise ApiUnreachableError(
                f"the Prefect Server at {self._transport.url} has no tenant yet",
                hint="create one: prefect server create-tenant --name default",
            )
        return str(tenants[0])

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Poll the queue, and ask for the details of what is new on the page."""
        ids = await self._queue(before, self._settings().effective_labels)
        new = [flow_run_id for flow_run_id in ids if flow_run_id not in known]
        if not new:
            return QueuePage(frozenset(ids), (), is_full=False)
        runs, problems = await self._details(new)
        return QueuePage(frozenset(ids), runs, is_full=len(ids) >= PAGE, problems=problems)

    async def due_with_label(self, label: str, known: Collection[str]) -> tuple[FlowRun, ...]:
        """Poll as an agent with one label more would. Polling takes nothing: only a claim does."""
        ids = await self._queue(self._clock.now(), (*self._settings().effective_labels, label))
        new = [flow_run_id for flow_run_id in ids if flow_run_id not in known]
        # what became due since the last poll may be this agent's without the label, too
        own = await self._queue(self._clock.now(), self._settings().effective_labels) if new else []
        new = [flow_run_id for flow_run_id in new if flow_run_id not in own]
        return (await self._details(new))[0] if new else ()

    async def _queue(self, before: datetime, labels: Sequence[str]) -> list[str]:
        given = {"before": before.isoformat(), "labels": list(labels), "tenant_id": self._tenant_id}
        ids = await self._one(
            queries.RUNS_IN_QUEUE, given, "get_runs_in_queue", lambda row: get_list(row, "flow_run_ids", str)
        )
        return list(ids)

    async def _details(self, ids: Sequence[str]) -> tuple[tuple[FlowRun, ...], tuple[str, ...]]:
        read_at = self._clock.monotonic()
        answer = await self._transport.ask(queries.flow_runs(ids, self._clock.now() - _DUE_SINCE))
        runs, problems = [], []
        for row in rows(answer, "flow_run", lambda row: {**row}):
            try:
                run = parse.flow_run(row, read_at)
            except WrongFieldError as error:
                problems.append(f"flow run {row.get('id', '?')}: {error}")
                continue
            if _is_launchable(row, run):
                runs.append(run)
        return tuple(sorted(runs, key=lambda run: run.due)), tuple(problems)

    def unsupported(self, run: FlowRun) -> str:
        """Tell why this kind of agent can never run it."""
        if run.run_config.kind not in _RUNNABLE:
            return f"it has a `run_config` of type `{run.run_config.kind}`; only LocalRun and UniversalRun run here"
        return "it has Docker storage, which needs a Docker agent" if run.storage == "Docker" else ""

    def child(self, run: FlowRun) -> Child:
        """Return the command that runs it. Raise LaunchError where nothing here can."""
        reason = self.unsupported(run)
        if reason:
            raise LaunchError(f"Flow run {run.id} cannot run here: {reason}")
        return child.child(run, self._settings(), self._environ, self._tenant_id)

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run: table T1."""
        return await self._claims.claim(run, nonce)

    async def claimed(self, record: Record) -> Claim:
        """Return what came of an earlier claim."""
        return await self._claims.claimed(record)

    async def give_back(self, record: Record) -> Outcome:
        """Make a run wait again whose process never started.

        Not before what an earlier life of this agent may have sent for that can land no more: the run would be made to
        wait once more, while it runs.
        """
        now = self._clock.now()
        landed = now + timedelta(seconds=self._settings().request_timeout_seconds)
        start = max(record.due, lock_is_over(record, now), landed)
        ours = await self._claims.give_back(record, start)
        return Outcome.GIVEN_BACK if ours else Outcome.NOT_OURS

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Fail a claimed run that cannot be launched here."""
        return Outcome.REPORTED if await self._claims.fail(record, message) else Outcome.NOT_OURS

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end: table T2."""
        return await self._ends.report(record, end, policy)

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Return how live runs stand now."""
        answer = await self._transport.ask(queries.views(ids))
        return dict(rows(answer, "flow_run", _view))

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Send the heartbeats that the runs' own processes fail to send."""
        await self._transport.ask(queries.heartbeats(ids))

    async def cancel(self, flow_run_id: str) -> str:
        """Cancel a run as Prefect's own user interface does."""
        return await self._one(
            queries.CANCEL,
            {"flow_run_id": flow_run_id},
            "cancel_flow_run",
            lambda row: get_str(row, "state", "Cancelling"),
        )

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Queue a line for the run's log, unless the settings say that none are sent."""
        if self._settings().cloud_logs:
            self._logs.add(flow_run_id, message, level)

    async def flush_logs(self) -> None:
        """Send queued lines until cancelled."""
        await self._logs.flush_for_ever()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    async def _one(
        self,
        query: str,
        given: Mapping[str, Any],
        root_field: str,
        parse_object: Callable[[Mapping[str, Any]], _Value],
    ) -> _Value:
        return _root(await self._transport.ask(query, {"input": given}), root_field, parse_object)


def _root(answer: Answer, root_field: str, parse_object: Callable[[Mapping[str, Any]], _Value]) -> _Value:
    refused = answer.error_of(root_field)
    if refused is not None:
        raise refused
    try:
        obj = get_object(answer.data, root_field)
        with within(root_field):
            return parse_object(obj)
    except WrongFieldError as error:
        raise ApiUnreachableError(
            f"the API's answer cannot be understood: {error}", hint="is its version Prefect 1's?"
        ) from error


def _is_launchable(row: Mapping[str, Any], run: FlowRun) -> bool:
    """Tell whether a run on the page is for an agent: Scheduled, or Running with task runs whose retry is due."""
    return row.get("state") == "Scheduled" or run.is_long_retry


def _view(row: Mapping[str, Any]) -> tuple[str, RunView]:
    state = states.meaning_of(get_str(row, "state", ""))
    return get_str(row, "id"), RunView(state, get_time(row, "heartbeat"))
