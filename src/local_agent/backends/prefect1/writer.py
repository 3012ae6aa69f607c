"""Reading and writing the states of many runs at once, each with an answer of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from local_agent.aio.batching import Batcher
from local_agent.backends.fields import WrongFieldError, get_list, get_object, get_str
from local_agent.backends.prefect1 import queries
from local_agent.errors import ApiRefusedError, ApiUnreachableError, LocalAgentError, NotUnderstoodError
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect1.transport import Answer, Transport

_Row = TypeVar("_Row")

PAGE = 25  # of the queue: the Server's queued_runs_returned_limit
MAX_READ = 100
_MAX_CHANGES = 20  # of one run in a request that it shares with so many others as a page has
_TROUBLE_SECONDS = 60.0  # longer than any pause after which it is tried again


@dataclass(frozen=True, slots=True)
class StateChange:
    """One state to set, of a flow run or of a task run."""

    id: str
    version: int
    state: Mapping[str, Any]
    is_task_run: bool = False

    def as_input(self) -> dict[str, Any]:
        """Return it as the mutation's input."""
        key = "task_run_id" if self.is_task_run else "flow_run_id"
        return {"states": [{key: self.id, "state": dict(self.state), "version": self.version}]}


class StateWriter:
    """Sets states in batches of at most `most` runs."""

    def __init__(self, transport: Transport, monotonic: Callable[[], float], most: int = PAGE) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._trouble, self._trouble_until = "", 0.0
        self._batches: Batcher[Sequence[StateChange], None] = Batcher(self._send, most=most, monotonic=monotonic)

    @property
    def trouble(self) -> str:
        """What has kept states from being set lately, "" where nothing has: whoever waits for it does not say it."""
        return self._trouble if self._monotonic() < self._trouble_until else ""

    async def write(self, changes: Sequence[StateChange]) -> None:
        """Set the states of one run, task runs before the flow run, in one request with those of others.

        Where they are many, in several: no API takes a thousand in one. Raise ApiUnreachableError when there was no
        answer (they may be set), ApiRefusedError when one of them was refused, with code QUEUED where Cloud keeps the
        run waiting.
        """
        for begin in range(0, len(changes), _MAX_CHANGES):
            await self._batches.ask(changes[begin : begin + _MAX_CHANGES])

    async def tell(self, changes: Sequence[StateChange]) -> None:
        """Set states whose words may be what the API refuses: then plainer ones are tried, down to a bare sentence.

        Raise as `write`, for the last of them: an end must not go untold for what a flow run wrote before it.
        """
        for plainer in (_in_one_line, _bare):
            try:
                return await self.write(changes)
            except ApiRefusedError:
                changes = [replace(change, state=plainer(change.state)) for change in changes]
        return await self.write(changes)

    async def write_and_let_land(self, changes: Sequence[StateChange], clock: Clock, timeout_seconds: float) -> None:
        """Make a run wait again; raise like `tell`, without an answer only when the request can land no more.

        Written once more and started by then, the run would be made to wait while it runs.
        """
        try:
            await self.tell(changes)
        except ApiUnreachableError:
            await clock.sleep(timeout_seconds)
            raise

    async def _send(self, batch: Sequence[Sequence[StateChange]]) -> Sequence[Exception | None]:
        changes = [change for one in batch for change in one if change.is_task_run]
        task_runs = len(changes)
        changes += [change for one in batch for change in one if not change.is_task_run]
        answer = await self._ask(
            len(batch),
            queries.set_states(task_runs, len(changes) - task_runs),
            {f"i{index}": change.as_input() for index, change in enumerate(changes)},
        )
        failures = {change.id: _failure(answer, f"s{index}") for index, change in enumerate(changes)}
        return [next((failures[change.id] for change in one if failures[change.id]), None) for one in batch]

    async def _ask(self, runs: int, query: str, variables: Mapping[str, Any]) -> Answer:
        try:
            return await self._transport.ask(query, variables)
        except NotUnderstoodError as error:
            # it may have been done: whoever asked has to read back before anything is sent again
            raise self._noted(ApiUnreachableError(error.message, hint=error.hint)) from error
        except ApiRefusedError as error:
            raise self._noted(error) if runs == 1 else error from error  # more than one is sent again in parts
        except LocalAgentError as error:
            raise self._noted(error) from error

    def _noted(self, error: LocalAgentError) -> LocalAgentError:
        self._trouble, self._trouble_until = error.message, self._monotonic() + _TROUBLE_SECONDS
        return error


class RunReader(Generic[_Row]):
    """Reads flow runs back in batches: `query` asks for those with some ids, `parse` takes the row of one."""

    def __init__(
        self,
        transport: Transport,
        query: Callable[[Sequence[str]], str],
        parse: Callable[[Any], _Row],
        monotonic: Callable[[], float],
        gather_seconds: float = 0.0,
    ) -> None:
        self._transport = transport
        self._query = query
        self._parse = parse
        self._batches: Batcher[str, _Row | None] = Batcher(
            self._send, most=MAX_READ, first=MAX_READ, monotonic=monotonic, gather_seconds=gather_seconds
        )

    async def read(self, flow_run_id: str) -> _Row | None:
        """Return the run as it is now, None where the API does not know it."""
        return await self._batches.ask(flow_run_id)

    async def _send(self, ids: Sequence[str]) -> Sequence[_Row | Exception | None]:
        answer = await self._transport.ask(self._query(list(dict.fromkeys(ids))))
        found = each_row(answer, "flow_run", self._parse)
        return [found.get(flow_run_id) for flow_run_id in ids]


def rows(answer: Answer, root_field: str, parse: Callable[[Any], _Row]) -> tuple[_Row, ...]:
    """Return the parsed rows of a query's root field.

    Raise ApiRefusedError where the API refused it, NotUnderstoodError where its answer cannot be understood.
    """
    refused = answer.error_of(root_field)
    if refused is not None:
        raise refused
    try:
        return get_list(answer.data, root_field, parse)
    except WrongFieldError as error:
        raise not_understood(error) from error


def each_row(answer: Answer, root_field: str, parse: Callable[[Any], _Row]) -> dict[str, _Row | Exception]:
    """Return the rows of a query's root field by id, each parsed or with the error that it alone has.

    Of two with the same id the first counts. Raise like `rows`, also where nobody knows whose a row is.
    """

    def parsed(row: Any) -> tuple[str, _Row | Exception]:  # noqa: ANN401 - any JSON
        row_id = get_str(row, "id")
        try:
            return row_id, parse(row)
        except (WrongFieldError, TypeError, AttributeError) as error:
            return row_id, not_understood(error)

    return dict(reversed(rows(answer, root_field, parsed)))


def not_understood(error: Exception) -> NotUnderstoodError:
    """Given what is wrong with an answer, return it as one of our errors."""
    return NotUnderstoodError(f"the API's answer cannot be understood: {error}", hint="is its version Prefect 1's?")


def _in_one_line(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state whose message is one short line of ASCII."""
    first_line = str(state.get("message", "")).partition("\n")[0]
    return {**state, "message": short(first_line.encode("ascii", "replace").decode())}


def _bare(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state whose message says nothing that anybody chose."""
    return {**state, "message": f"{state.get('type')}, by local-agent"}


def _failure(answer: Answer, alias: str) -> Exception | None:
    refused = answer.error_of(alias)
    if refused is not None:
        return refused
    try:
        results = get_list(get_object(answer.data, alias), "states", lambda item: get_str(item, "status"))
    except WrongFieldError as error:
        return NotUnderstoodError(f"the API's answer to a state change cannot be understood: {error}")
    status = short(results[0]) if results else "missing"
    return None if status == "SUCCESS" else ApiRefusedError(f"the API answers {status}", code=status)
