"""A small model of agents that claim one flow run at an API without a lock, and a search through all that can happen.

The API only appends to the run's history. The agents do what `claim_rule.Plan` says: the code under test itself. A
step is one thing that somebody does: poll, send, read, wait, open the gate, give back, be killed, start again; and what
the network does: lose an answer, or carry a request out late. The search goes through every order of all steps.

What the model knows of time is what the rule needs, and no more: a request that nobody waits for any more lands before
its agent, or the agent's next life, has waited for the request timeout; then it is lost. Nothing else is timed: between
two steps of one agent the others may do anything. In particular settling takes no time.

A run is lost where nobody does anything any more and it is neither over nor waiting, and where it has run and the API
says otherwise. It is run twice where two gates open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

from local_agent.backends.prefect1.claim_rule import (
    Act,
    PastState,
    Plan,
    Sent,
    is_given_back,
    may_be_given_back,
)

_START = datetime(2026, 3, 1, tzinfo=UTC)
OVER = frozenset({"Success", "Cancelled"})


class Entry(NamedTuple):
    """A state in the history. `text` tells waiting states apart; `at` is when the API set it."""

    version: int
    kind: str
    nonce: str
    text: str
    at: int


class Request(NamedTuple):
    """A state that an agent has sent, and that is not carried out yet. `seen` is the version that the API has read."""

    agent: int
    kind: str
    nonce: str
    text: str
    seen: int = -1
    at: int = -1
    waited_for: bool = False  # whether its agent waits for the answer


class Agent(NamedTuple):
    """`phase` is what its story is at; `plan` is its claim."""

    phase: str
    plan: Plan | None
    polls: int


class State(NamedTuple):
    """Everything that decides what can happen next; `history` has the oldest state first, and `gates` have opened."""

    history: tuple[Entry, ...]
    agents: tuple[Agent, ...]
    requests: tuple[Request, ...]
    losses: int
    kills: int
    cancels: int
    failures: int
    gates: int
    cancelled_waiting: bool


@dataclass(frozen=True)
class Bounds:
    """How much may happen in one search."""

    agents: int
    polls: int = 1  # how often each agent may take the run from the queue
    losses: int = 0  # answers and requests that get lost, or land late
    kills: int = 0  # agents that are killed and start again
    cancels: int = 0  # somebody cancels the run
    failures: int = 0  # launches that fail: the run is given back
    settles: bool = False  # claim_check = always
    locks: bool = False  # a replica may refuse a claim where there is one
    two_steps: bool = False  # the API reads a run's version, and writes the next state later
    skewed: bool = False  # and its replicas' clocks differ: times are not in the order of writing
    of_another_kind: int = -1  # the number of an agent that reads nothing back

    def first(self) -> State:
        """Return where it begins: the run waits, and nobody knows of it."""
        waiting = Entry(1, "Scheduled", "", "created", 0)
        idle = Agent("idle", None, self.polls)
        return State(
            (waiting,), (idle,) * self.agents, (), self.losses, self.kills, self.cancels, self.failures, 0, False
        )


Step = tuple[str, State]
Begin = Callable[[str, int, bool], Plan]


@dataclass
class Found:
    """What a search came to.

    `histories` is how many ways lead from the beginning to an end; `bad` has the shortest way to each kind of fault.
    """

    states: int = 0
    steps: int = 0
    ends: int = 0
    histories: int = 0
    bad: dict[str, list[str]] = field(default_factory=dict)


def search(bounds: Bounds, begin: Begin = Plan, most: int = 10_000_000) -> Found:
    """Go through everything that can happen within the bounds, breadth first, each state once."""
    model, found = _Model(bounds, begin), Found()
    first = bounds.first()
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    before: dict[State, list[State]] = {}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        steps = list(model.steps(state))
        found.states += 1
        assert found.states <= most, "more states than the bound"
        for name, after in steps:
            found.steps += 1
            before.setdefault(after, []).append(state)
            if after not in came_from:
                came_from[after] = state, name
                queue.append(after)
        fault = _fault(state, is_end=not steps)
        found.ends += not steps
        if fault and fault not in found.bad:
            found.bad[fault] = _way(came_from, state)
    if not found.bad:
        found.histories = _count_ways(first, came_from, before)
        if not found.histories:
            found.bad["goes round for ever"] = []
    return found


def _fault(state: State, *, is_end: bool) -> str:
    if state.gates > 1:
        return "run twice"
    if state.gates and state.cancelled_waiting:
        return "run although it was cancelled while it waited"
    if not is_end:
        return ""
    newest = state.history[-1].kind
    if state.cancelled_waiting and newest != "Cancelled":
        return f"cancelled, and in the end {newest}"
    if state.gates and newest not in OVER:
        return f"it has run, and is in the end {newest}"
    return "" if newest in OVER or newest == "Scheduled" else f"lost: in the end {newest}, and nobody has it"


def _count_ways(first: State, all_states: Collection[State], before: Mapping[State, Sequence[State]]) -> int:
    """Count the ways from the first state to an end. 0 where one goes round: then it need never come to an end."""
    missing = {state: len(before.get(state, ())) for state in all_states}
    after: dict[State, list[State]] = {}
    for state, earlier in before.items():
        for one in earlier:
            after.setdefault(one, []).append(state)
    ways, ready, ends = dict.fromkeys(all_states, 0), [first], 0
    ways[first] = 1
    while ready:
        state = ready.pop()
        ends += 0 if state in after else ways[state]
        for later in after.get(state, ()):
            ways[later] += ways[state]
            missing[later] -= 1
            if not missing[later]:
                ready.append(later)
    return 0 if any(missing.values()) else ends


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    names = [f"in the end {[(one.kind, one.nonce) for one in state.history]}"]
    step = came_from[state]
    while step is not None:
        names.append(step[1])
        step = came_from[step[0]]
    return names[::-1]


@cache
def past_state(entry: Entry) -> PastState:
    """Return a state as the agent reads it."""
    context = {"local_agent_nonce": entry.nonce} if entry.nonce else {}
    state = {"type": entry.kind, "message": entry.text, "context": context}
    return PastState(entry.version, state, _START + timedelta(seconds=entry.at))


@cache
def _read(history: tuple[Entry, ...]) -> tuple[PastState, ...]:
    return tuple(past_state(entry) for entry in reversed(history))


@cache
def _has_read(plan: Plan, history: tuple[Entry, ...]) -> Plan:
    return plan.has_read(_read(history))


class _Model:
    def __init__(self, bounds: Bounds, begin: Begin) -> None:
        self._bounds = bounds
        self._begin = begin

    def steps(self, state: State) -> Iterator[Step]:
        for number, agent in enumerate(state.agents):
            for name, after in self._of_agent(state, number, agent):
                yield f"{'ABCDE'[number]} {name}", after
        for request in dict.fromkeys(state.requests):
            yield from self._of_request(state, request)
        newest = state.history[-1].kind
        if state.cancels and newest in ("Scheduled", "Submitted"):
            was_waiting = state.cancelled_waiting or newest == "Scheduled"
            cancelled = _append(state, "Cancelled", "", "by a person")
            yield (
                "somebody cancels",
                cancelled._replace(cancels=state.cancels - 1, cancelled_waiting=was_waiting),
            )

    def _of_agent(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        if any(request.agent == number and request.waited_for for request in state.requests):
            yield from self._kill(state, number, agent)
            return
        yield from getattr(self, f"_{agent.phase}")(state, number, agent)
        if agent.phase not in ("idle", "dead", "starting", "running", "foreign"):
            yield from self._kill(state, number, agent)

    def _kill(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        if not state.kills or agent.phase == "foreign":
            return
        requests = tuple(
            request._replace(waited_for=False) if request.agent == number else request for request in state.requests
        )
        dead = _with(state, number, agent._replace(phase="dead"))
        dead = dead._replace(kills=state.kills - 1, requests=_sorted(requests))
        yield "is killed", dead
        sends = self._next_request(number, agent)
        if sends is not None and requests == state.requests:
            yield "sends, is killed", dead._replace(requests=_sorted((*requests, sends._replace(waited_for=False))))

    def _next_request(self, number: int, agent: Agent) -> Request | None:
        plan = agent.plan
        assert plan is not None
        if agent.phase == "giving":
            return Request(number, "Scheduled", plan.nonce, f"given back by {plan.nonce}")
        if agent.phase not in ("claiming", "settling"):
            return None
        if plan.act is Act.SEND:
            return Request(number, "Submitted", plan.nonce, "")
        if plan.act is Act.RESTORE and plan.restore is not None:
            past = plan.restore
            return Request(number, past.kind, past.nonce, str(past.state["message"]))
        return None

    # what an agent does, by the phase that it is in

    def _idle(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        earlier = state.agents[:number]
        # agents are alike: the first to poll is called A, the second B
        if any(one.phase == "idle" and one.polls == self._bounds.polls for one in earlier):
            return
        newest = state.history[-1]
        if agent.polls and newest.kind == "Scheduled":
            nonce = f"{'ABCDE'[number]}{self._bounds.polls - agent.polls}"
            plan = self._begin(nonce, newest.version, self._bounds.settles)
            phase = "foreign" if number == self._bounds.of_another_kind else "claiming"
            yield "polls", _with(state, number, Agent(phase, plan, agent.polls - 1))

    def _foreign(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        """An agent of another kind: what it has polled it claims, and starts when the API says yes."""
        after = _append(state, "Submitted", "", "")
        yield (
            "claims and starts",
            _with(after, number, agent._replace(phase="starting"))._replace(gates=state.gates + 1),
        )

    def _claiming(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        plan = agent.plan
        assert plan is not None
        if plan.act in (Act.SEND, Act.RESTORE):
            yield from self._send(state, number, agent)
        elif plan.act is Act.READ:
            yield "reads", self._goes_on(state, number, agent, _has_read(plan, state.history))
        elif self._may_settle(state) if plan.act is Act.SETTLE else _has_landed(state, number):
            # it reads whenever it likes after that: so it is one step
            after = _has_read(plan.has_waited(), state.history)
            yield f"waited ({plan.act.name}), reads", self._goes_on(state, number, agent, after)

    def _may_settle(self, state: State) -> bool:
        """What is on its way lands by then, where it is not held up, and so does the claim of one of another kind."""
        return not any(request.waited_for for request in state.requests) and not any(
            agent.phase == "foreign" for agent in state.agents
        )

    _settling = _claiming

    def _goes_on(self, state: State, number: int, agent: Agent, plan: Plan) -> State:
        if plan.act in (Act.LOST, Act.LATER):
            return _with(state, number, Agent("idle", None, agent.polls))
        if plan.act is Act.OURS:
            earlier = plan.sent is Sent.EARLIER
            return _with(state, number, Agent("reading" if earlier else "launching", plan, agent.polls))
        return _with(state, number, agent._replace(plan=plan))

    def _launching(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        opened = _with(state, number, agent._replace(phase="starting", plan=None))
        yield "opens the gate", opened._replace(gates=state.gates + 1)
        if state.failures:
            failed = _with(state, number, agent._replace(phase="reading"))
            yield "cannot launch", failed._replace(failures=state.failures - 1)

    def _starting(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        if state.history[-1].kind in OVER:
            yield "'s process has nothing to do", _with(state, number, Agent("idle", None, agent.polls))
            return
        after = _append(state, "Running", "", "")
        yield "'s process reports Running", _with(after, number, agent._replace(phase="running", plan=None))

    def _running(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        after = _append(state, "Success", "", "")
        yield "'s process reports Success", _with(after, number, Agent("idle", None, agent.polls))

    def _reading(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        """Give back: look whether it is still ours."""
        assert agent.plan is not None
        past, nonce = _read(state.history), agent.plan.nonce
        if is_given_back(past, nonce):
            yield "sees that it has given back", self._looks(state, number, agent)
        elif may_be_given_back(past, nonce):
            yield "may give back", _with(state, number, agent._replace(phase="giving"))
        else:
            yield "has nothing to give back", _with(state, number, Agent("idle", None, agent.polls))

    def _giving(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        yield from self._send(state, number, agent)

    def _landing(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        if _has_landed(state, number):
            yield from self._reading(state, number, agent)

    def _looks(self, state: State, number: int, agent: Agent) -> State:
        assert agent.plan is not None
        plan = Plan.of_give_back(agent.plan.nonce, agent.plan.rests_on)
        return _with(state, number, agent._replace(phase="settling", plan=plan))

    def _dead(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        assert agent.plan is not None
        if _has_landed(state, number):
            plan = Plan.of_earlier_process(agent.plan.nonce, agent.plan.rests_on).has_waited()
            after = self._goes_on(state, number, agent._replace(phase="claiming"), _has_read(plan, state.history))
            yield "starts again, waited, reads", after

    # requests

    def _send(self, state: State, number: int, agent: Agent) -> Iterator[Step]:
        request = self._next_request(number, agent)
        assert request is not None
        what = request.kind
        if self._bounds.two_steps:
            yield f"sends {what}", _requested(state, self._selected(state, request._replace(waited_for=True)))
        else:
            applied = _append(state, request.kind, request.nonce, request.text)
            yield f"sends {what}", self._answered(applied, number, Sent.ACCEPTED)
        is_taken = any(entry.kind == "Submitted" for entry in state.history)
        if self._bounds.locks and request.kind == "Submitted" and is_taken:
            yield f"is refused {what}", self._answered(state, number, Sent.REFUSED)
        if state.losses:
            lost = state._replace(losses=state.losses - 1)
            unanswered = self._answered(lost, number, Sent.UNANSWERED)
            yield f"sends {what}, it gets lost or lands late", _requested(unanswered, request)

    def _selected(self, state: State, request: Request) -> Request:
        return request._replace(
            seen=max(entry.version for entry in state.history), at=_next_at(state) if self._bounds.skewed else -1
        )

    def _answered(self, state: State, number: int, sent: Sent) -> State:
        agent = state.agents[number]
        assert agent.plan is not None
        if agent.phase != "giving":
            return self._goes_on(state, number, agent, agent.plan.has_sent(sent))
        if sent is Sent.ACCEPTED:
            return self._looks(state, number, agent)
        return _with(state, number, agent._replace(phase="landing"))

    def _of_request(self, state: State, request: Request) -> Iterator[Step]:
        rest = list(state.requests)
        rest.remove(request)
        without = state._replace(requests=tuple(rest))
        who = "ABCDE"[request.agent]
        landed = _append(without, request.kind, request.nonce, request.text, request.seen, request.at)
        if request.waited_for:
            yield f"{who}'s {request.kind} is written", self._answered(landed, request.agent, Sent.ACCEPTED)
            return
        yield f"{who}'s {request.kind} lands late", landed
        yield f"{who}'s {request.kind} is lost", without


def _append(state: State, kind: str, nonce: str, text: str, seen: int = -1, at: int = -1) -> State:
    """Write a state, as the Server's trigger does: of equal versions the one written last is the present one."""
    present = state.history[-1]
    version = (seen if seen >= 0 else max(entry.version for entry in state.history)) + 1
    entry = Entry(version, kind, nonce, text, at if at >= 0 else _next_at(state))
    history = sorted((*state.history, entry), key=lambda one: (one.version, one.at))
    newest = entry if version >= present.version else present
    history.remove(newest)
    return state._replace(history=(*history, newest))


def _has_landed(state: State, number: int) -> bool:
    return not any(request.agent == number for request in state.requests)


def _next_at(state: State) -> int:
    times = [entry.at for entry in state.history] + [request.at for request in state.requests]
    return max(times) + 1


def _with(state: State, number: int, agent: Agent) -> State:
    return state._replace(agents=(*state.agents[:number], agent, *state.agents[number + 1 :]))


def _requested(state: State, request: Request) -> State:
    return state._replace(requests=_sorted((*state.requests, request)))


def _sorted(requests: tuple[Request, ...]) -> tuple[Request, ...]:
    return tuple(sorted(requests))
