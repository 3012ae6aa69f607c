"""The Prefect 1 API as the agent's Backend: puts together what the other files of this folder do."""

from __future__ import annotations

import contextlib
import re
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from local_agent.aio.batching import in_parts
from local_agent.backends import NearMiss, QueuePage
from local_agent.backends.environment import scrubbed
from local_agent.backends.fields import (
    WrongFieldError,
    get_id,
    get_list,
    get_object,
    get_str,
    get_time,
    parse_id,
    within,
)
from local_agent.backends.prefect1 import child, parse, queries, states
from local_agent.backends.prefect1.claims import Check, Claims
from local_agent.backends.prefect1.detail import detail_of, ticket_for, ticket_of
from local_agent.backends.prefect1.ends import Ends, lock_is_over
from local_agent.backends.prefect1.logs import RunLogs
from local_agent.backends.prefect1.writer import PAGE, StateWriter, each_row, not_understood, rows
from local_agent.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    CredentialError,
    LaunchError,
    LocalAgentError,
    NotUnderstoodError,
)
from local_agent.model import Cause, Claim, FlowRun, Outcome, RunState, RunView
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect1.access import Access
    from local_agent.backends.prefect1.parse import RunFacts
    from local_agent.backends.prefect1.transport import Answer, Transport
    from local_agent.model import Child, CrashPolicy, End, Record
    from local_agent.settings import Settings

_Value = TypeVar("_Value")

_MAX_ON_A_PAGE = 1000  # the Server has 25
_DUE_SINCE = timedelta(seconds=3)  # a task run due for less is still its own process's business
_RUNNABLE = frozenset({"", "LocalRun", "UniversalRun"})
_TASK_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-[0-9]+)?")
_UUID_CHARS = 36
_AGENT_TYPE = "LocalAgent"
_GONE = RunView(RunState.MISSING)


class Prefect1Backend:
    """Fulfils `Backend`. `settings` returns the settings in force: labels and env may change at a reload."""

    name = "prefect1"

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
        self._inherited = scrubbed(environ)
        self._clock = clock
        self._tenant_id = now.tenant_id or ""
        self._choice = ""
        self._agent_id = ""
        self._registered_as: Mapping[str, object] = {}
        self._access: Access | None = None
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

    def asks_for(self) -> str:
        """Name the labels."""
        return f"labels {list(self._settings().effective_labels)}"

    async def connect(self) -> str:
        """Learn the tenant, register this agent, say hello. Return which tenant it is, if it was one of several."""
        settings = self._settings()
        self._transport.use_key(settings.api_key.reveal() if settings.api_key else "")
        if not self._tenant_id:
            self._tenant_id = await self._ask_tenant(has_key=bool(settings.api_key))
        if settings.api_key:
            self._transport.use_tenant(self._tenant_id)
        await self._register(settings)
        await self._learn_access()
        await self._transport.ask(queries.HELLO)
        if settings.agent_config_id:
            await self._transport.ask(queries.agent_config(settings.agent_config_id))
        self._registered_as = {}  # after the next outage the API may have forgotten this agent
        return self._choice

    async def _register(self, settings: Settings) -> None:
        """Register this agent; not again where a later step of connecting failed, as each may need some tries."""
        given = {
            "type": _AGENT_TYPE,
            "name": settings.name,
            "labels": list(settings.effective_labels),
            "tenant_id": self._tenant_id,
            "agent_config_id": settings.agent_config_id or None,
        }
        if given != self._registered_as:
            self._agent_id = await self._one(
                queries.REGISTER_AGENT, given, "register_agent", lambda row: get_id(row, "id")
            )
            self._registered_as = given
        self._transport.use_agent_id(self._agent_id)

    async def _learn_access(self) -> None:
        """Behind a unix socket, ask what flow runs need: the server may be another one than the last time."""
        if self._transport.unix_path:
            self._access = await self._transport.ask_access()

    async def _ask_tenant(self, *, has_key: bool) -> str:
        if has_key:
            answer = await self._transport.ask(queries.AUTH_INFO)
            tenant = _root(answer, "auth_info", lambda row: row.get("tenant_id") and get_id(row, "tenant_id"))
            if not tenant:
                raise CredentialError(
                    "the API key belongs to no tenant",
                    hint="set `tenant_id`, or use a key of Prefect 1.0 or later",
                )
            return tenant
        answer = await self._transport.ask(queries.TENANT)
        tenants = rows(answer, "tenant", lambda row: get_id(row, "id"))
        if not tenants:
            raise ApiUnreachableError(
                f"the Prefect Server at {self._transport.url} has no tenant yet",
                hint="create one: prefect server create-tenant --name default",
            )
        if len(tenants) > 1:
            self._choice = (
                f"This API has {len(tenants)} tenants, and tenant_id is not set: this agent takes flow runs of the"
                f" first, {tenants[0]}"
            )
        return tenants[0]

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Poll the queue, and ask for the details of what is new on the page."""
        sent_at = self._transport.api_clock.mark()
        ids, strange = await self._queue(before, self._settings().effective_labels)
        if self._transport.api_clock.is_to_be_asked:
            await self._ask_the_time(sent_at, self._transport.api_clock.mark())
        new = [flow_run_id for flow_run_id in ids if flow_run_id not in known]
        if not new:
            return QueuePage(frozenset(ids), (), is_full=False, problems=strange)
        await self._learn_access()
        runs, problems = await self._details(new)
        return QueuePage(frozenset(ids), runs, is_full=len(ids) >= PAGE, problems=(*strange, *problems))

    @property
    def clock_ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the API's."""
        return self._transport.api_clock.ahead_seconds

    @property
    def trouble(self) -> str:
        """What has kept this agent from claiming flow runs or telling their ends lately."""
        return self._writer.trouble or self._ends.trouble

    def earlier_now(self) -> datetime:
        """Return this machine's time, or the API's where this machine's is far ahead."""
        return self._transport.api_clock.earlier_now()

    async def _ask_the_time(self, sent_at: float, answered_at: float) -> None:
        """Ask when this agent has polled. An API that does not tell is no fault."""
        times: tuple[datetime | None, ...] = ()
        with contextlib.suppress(LocalAgentError):
            answer = await self._transport.ask(queries.last_queried(self._agent_id))
            times = rows(answer, "agent", lambda row: get_time(row, "last_queried"))
        self._transport.api_clock.hear(times[0] if times else None, sent_at, answered_at)

    async def near_misses(self, known: Collection[str]) -> Sequence[NearMiss]:
        """Return due runs that only lack the hostname label here: registering adds it to flows with Local storage."""
        settings = self._settings()
        if settings.hostname_label:
            return ()
        reason = f"it has every label of this agent but the hostname label {settings.hostname}"
        return [NearMiss(run, reason) for run in await self._due_with_label(settings.hostname, known)]

    async def _due_with_label(self, label: str, known: Collection[str]) -> tuple[FlowRun, ...]:
        """Poll as an agent with one label more would. Polling takes nothing: only a claim does."""
        ids, _ = await self._queue(self.earlier_now(), (*self._settings().effective_labels, label))
        new = [flow_run_id for flow_run_id in ids if flow_run_id not in known]
        # what became due since the last poll may be this agent's without the label, too
        own = (await self._queue(self.earlier_now(), self._settings().effective_labels))[0] if new else ()
        new = [flow_run_id for flow_run_id in new if flow_run_id not in own]
        return (await self._details(new))[0] if new else ()

    async def _queue(self, before: datetime, labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the ids of runs that are due, each once, and a sentence for each that is none."""
        given = {"before": before.isoformat(), "labels": list(labels), "tenant_id": self._tenant_id}
        found = await self._one(
            queries.RUNS_IN_QUEUE,
            given,
            "get_runs_in_queue",
            lambda row: get_list(row, "flow_run_ids", _id_or_problem, _MAX_ON_A_PAGE),
        )
        ids = dict.fromkeys(one for one, problem in found if not problem)
        return tuple(ids), tuple(problem for _, problem in found if problem)

    async def _details(self, ids: Sequence[str]) -> tuple[tuple[FlowRun, ...], tuple[str, ...]]:
        """Ask for what a launch needs. Where the page is refused or not understood, run by run: others may be good."""
        found = await in_parts(ids, self._ask_for_details)
        _raise_what_is_the_apis(found)
        problems = [
            f"flow run {run_id}: {one.message}"
            for run_id, one in zip(ids, found, strict=True)
            if isinstance(one, LocalAgentError)
        ]
        runs = [one for one in found if isinstance(one, FlowRun)]
        return tuple(sorted(runs, key=lambda run: run.due)), tuple(problems)

    async def _ask_for_details(self, ids: Sequence[str]) -> list[FlowRun | Exception | None]:
        """Return for each id the run, None where it is not for an agent, or what is wrong with its data."""
        read_at = self._clock.monotonic()
        answer = await self._transport.ask(queries.flow_runs(ids, self.earlier_now() - _DUE_SINCE))
        found = each_row(answer, "flow_run", lambda row: _launchable(row, read_at))
        return [found.get(flow_run_id) for flow_run_id in ids]

    async def parents(self, ids: Collection[str]) -> Mapping[str, str]:
        """Return the parents of runs that Prefect's own tasks have created (prefect 1.4.1, tasks/prefect/flow_run.py).

        `create_flow_run` and `StartFlowRun` give the id of their task run as idempotency key, with the index where they
        are mapped. The parent of a run with a key of somebody's own cannot be known.
        """
        answer = await self._transport.ask(queries.idempotency_keys(ids))
        keys = dict(rows(answer, "flow_run", lambda row: (get_str(row, "id"), get_str(row, "idempotency_key", ""))))
        creators = {run_id: key[:_UUID_CHARS] for run_id, key in keys.items() if _TASK_RUN.fullmatch(key)}
        if not creators:
            return {}
        answer = await self._transport.ask(queries.flow_runs_of(sorted(set(creators.values()))))
        owners = dict(rows(answer, "task_run", lambda row: (get_str(row, "id"), get_str(row, "flow_run_id"))))
        return {run_id: owners[task_run] for run_id, task_run in creators.items() if task_run in owners}

    def unsupported(self, run: FlowRun) -> str:
        """Tell why this kind of agent can never run it."""
        detail = detail_of(run)
        if detail.run_config.kind not in _RUNNABLE:
            return f"it has a `run_config` of type `{detail.run_config.kind}`; only LocalRun and UniversalRun run here"
        return "it has Docker storage, which needs a Docker agent" if detail.storage == "Docker" else ""

    def nonce(self) -> str:
        """Return one for each claim."""
        return uuid.uuid4().hex

    def ticket(self, run: FlowRun) -> Mapping[str, object]:
        """Return what the claim rests on."""
        return ticket_for(run).as_json()

    async def child(self, run: FlowRun) -> Child:
        """Return the command that runs it. Raise LaunchError where nothing here can."""
        reason = self.unsupported(run)
        if reason:
            raise LaunchError(f"Flow run {run.id} cannot run here: {reason}")
        return child.child(run, self._settings(), self._inherited, self._tenant_id, self._access)

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run: table T1."""
        return await self._claims.claim(run, nonce)

    async def claimed(self, record: Record) -> Claim:
        """Return what came of an earlier claim."""
        return await self._claims.claimed(record)

    def launched(self, record: Record, where: str) -> None:
        """Say so in the run's log."""
        self.log(record.id, f"Submitted for execution: {where}")

    async def give_back(self, record: Record) -> Outcome:
        """Make a run wait again whose process never started.

        It starts no earlier than `request_timeout` from now. A Scheduled that an earlier process of this agent has sent
        may still arrive until then, and would make a run wait that runs.
        """
        timeout = timedelta(seconds=self._settings().request_timeout_seconds)

        def start(facts: RunFacts) -> datetime:
            now = self._transport.api_clock.now()
            return max(record.due, lock_is_over(facts, now), now + timeout)

        ours = await self._claims.give_back(record, start)
        return Outcome.GIVEN_BACK if ours else Outcome.NOT_OURS

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Fail a claimed run that cannot be launched here."""
        return Outcome.REPORTED if await self._claims.fail(record, message) else Outcome.NOT_OURS

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end: table T2.

        A long retry that is not known to have been launched when the power went is given back: nobody else takes it.
        """
        is_to_wait_again = end.cause is Cause.POWER_LOST and not record.launcher and ticket_of(record).task_runs
        if is_to_wait_again and await self.claimed(record) is Claim.OURS:
            return await self.give_back(record)
        return await self._ends.report(record, end, policy)

    async def epilogue(self, record: Record, end: End) -> Child | None:  # noqa: ARG002 - the Protocol's
        """Return None: what a flow does at its end, Prefect 1 does in its process."""
        return None

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Return how live runs stand now."""
        found = await in_parts(ids, self._ask_for_views)
        _raise_what_is_the_apis(found)
        pairs = zip(ids, found, strict=True)
        return {flow_run_id: view or _GONE for flow_run_id, view in pairs if not isinstance(view, Exception)}

    async def _ask_for_views(self, ids: Sequence[str]) -> list[RunView | Exception | None]:
        answer = await self._transport.ask(queries.views(ids))
        found = each_row(answer, "flow_run", _view)
        return [found.get(flow_run_id) for flow_run_id in ids]

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Send the heartbeats that the runs' own processes fail to send."""

        async def send(some: Sequence[str]) -> list[Exception | None]:
            await self._transport.ask(queries.heartbeats(some))
            return [None] * len(some)

        failures = [one for one in await in_parts(ids, send) if one is not None]
        if failures and len(failures) == len(ids):
            raise failures[0]

    async def cancel(self, flow_run_id: str) -> str:
        """Cancel a run as Prefect's own user interface does."""
        return await self._one(
            queries.CANCEL,
            {"flow_run_id": flow_run_id},
            "cancel_flow_run",
            lambda row: short(get_str(row, "state", "Cancelling")),
        )

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Queue a line for the run's log, unless the settings say that none are sent."""
        if self._settings().cloud_logs:
            self._logs.add(flow_run_id, message, level)

    async def attend(self, on_work: Callable[[], None], on_change: Callable[[], None]) -> None:  # noqa: ARG002
        """Send queued lines. This API tells nothing unasked, and takes each poll for a sign of life."""
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
        raise not_understood(error) from error


def _raise_what_is_the_apis(found: Sequence[object]) -> None:
    """Given what was found of each run, raise where that is no fault of single ones: no answer, or none is good."""
    failures = [one for one in found if isinstance(one, Exception)]
    passing = [one for one in failures if not isinstance(one, (ApiRefusedError, NotUnderstoodError))]
    is_all = len(failures) == len(found)
    if is_all and (len(found) > 1 or any(isinstance(one, ApiRefusedError) for one in failures)):
        passing += failures
    if passing:
        raise passing[0]


def _id_or_problem(value: object) -> tuple[str, str]:
    """Return an id, or else a sentence that it is none."""
    try:
        return parse_id(value, "id"), ""
    except WrongFieldError as error:
        return "", f"a flow run whose {error}"


def _launchable(row: Mapping[str, Any], read_at: float) -> FlowRun | None:
    """Return a run on the page where it is for an agent: Scheduled, or Running with task runs whose retry is due."""
    run = parse.flow_run(row, read_at)
    return run if row.get("state") == "Scheduled" or detail_of(run).is_long_retry else None


def _view(row: Mapping[str, Any]) -> RunView:
    return RunView(states.meaning_of(get_str(row, "state", "")), get_time(row, "heartbeat"))
