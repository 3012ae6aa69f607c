"""The queues of a work pool: which flow runs are due, and which of those that were are still to be taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from local_agent.aio.batching import Batcher
from local_agent.backends import QueuePage
from local_agent.backends.fields import WrongFieldError, get_id, get_list, get_object, within
from local_agent.backends.prefect3 import parse
from local_agent.backends.prefect3.answers import not_understood
from local_agent.backends.prefect3.detail import IN_PROCESS, detail_of
from local_agent.backends.prefect3.pool import MAX_RUNS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect3.pool import Pool
    from local_agent.model import FlowRun

_PAGE = 50
_MAX_NAMES = 10_000
# longer ago, the pool may have been paused, or its limit reached: only its queue tells
FRESH_SECONDS = 1.0
_MAX_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _Due:
    """What the queue handed out: every id, the runs that are understood, and what is wrong with the others."""

    ids: tuple[str, ...]
    runs: tuple[FlowRun, ...]
    problems: tuple[str, ...]
    is_full: bool


class RunQueue:
    """Asks the queues named `queues`, every queue of the pool where none is named."""

    def __init__(self, pool: Pool, queues: Sequence[str], clock: Clock) -> None:
        self._pool = pool
        self._queues = tuple(queues)
        self._clock = clock
        self._flow_names: dict[str, str] = {}
        self._still_due: Batcher[str, bool] = Batcher(
            self._look_again, most=_MAX_AT_ONCE, first=_MAX_AT_ONCE, monotonic=clock.monotonic
        )

    async def page(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Return the runs that are handed out and start by `before`, in the order of the queues' priorities."""
        due = await self._ask(before, _PAGE)
        if due.is_full and all(run.id in known for run in due.runs):
            due = await self._ask(before, MAX_RUNS)  # what nobody here may take must not hide the others
        new = [run for run in due.runs if run.id not in known and detail_of(run).retry_type != IN_PROCESS]
        runs = await self._with_flow_names(new)
        return QueuePage(frozenset(due.ids), runs, is_full=due.is_full and bool(runs), problems=due.problems)

    async def is_still_due(self, run: FlowRun) -> bool:
        """Tell whether the queue hands a run out now. One that came just now is taken for one that it does."""
        if self._clock.monotonic() - run.read_at_seconds < FRESH_SECONDS:
            return True
        return await self._still_due.ask(run.id)

    async def _look_again(self, ids: Sequence[str]) -> Sequence[bool | Exception]:
        due = await self._ask(self._clock.now(), MAX_RUNS)
        return [due.is_full or run_id in due.ids for run_id in ids]

    async def _ask(self, before: datetime, most: int) -> _Due:
        read_at = self._clock.monotonic()
        answer = await self._pool.due(before, self._queues, most)
        try:
            rows = get_list({"runs": answer}, "runs", lambda row: _row(row, read_at))
        except WrongFieldError as error:
            raise not_understood(error) from error
        return _Due(
            ids=tuple(run_id for run_id, _ in rows),
            runs=tuple(run for _, run in rows if not isinstance(run, WrongFieldError)),
            problems=tuple(f"flow run {run_id}: {run}" for run_id, run in rows if isinstance(run, WrongFieldError)),
            is_full=len(rows) >= most,
        )

    async def _with_flow_names(self, runs: Sequence[FlowRun]) -> tuple[FlowRun, ...]:
        unknown = {detail_of(run).flow_id for run in runs} - self._flow_names.keys()
        if unknown:
            if len(self._flow_names) > _MAX_NAMES:
                self._flow_names.clear()
            self._flow_names.update(await self._pool.flow_names(sorted(unknown)))
        return tuple(replace(run, flow_name=self._flow_names.get(detail_of(run).flow_id, "")) for run in runs)


def _row(row: Any, read_at_seconds: float) -> tuple[str, FlowRun | WrongFieldError]:  # noqa: ANN401 - any JSON
    """Return a row's id and its run, or what is wrong with it. Raise WrongFieldError where nobody knows whose it is."""
    run = get_object(row, "flow_run")
    with within("flow_run"):
        run_id = get_id(run, "id")
    try:
        return run_id, parse.due_run(run, read_at_seconds)
    except WrongFieldError as error:
        return run_id, error
