"""What flow runs do in these tests, what each must come to, and the check that it did: once, and rightly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_agent.backends.prefect1.states import FINISHED
from support.api import Api

FINAL = FINISHED | {"Cancelled"}


@dataclass(frozen=True)
class Play:
    """The script of a flow run, the state that it must end in with what message, and how often it is to be started."""

    script: str
    state: str
    message: str = ""
    starts: int = 1


def succeeds(seconds: float) -> Play:
    """It runs for a while and reports Success."""
    return Play(f"report Running\nnap {seconds:.2f}\nreport Success", "Success", "set to Success by the player")


def crashes_once(seconds: float) -> Play:
    """It is killed in mid-run, and succeeds when it is started again."""
    script = f"report Running\nfirst-time nap {seconds:.2f}\nfirst-time signal KILL\nreport Success"
    return Play(script, "Success", "set to Success by the player", starts=2)


def any_crash(chance: random.Random, most_seconds: float) -> Play:
    """Return a flow run of an agent that starts once again what crashes."""
    nap = f"nap {chance.uniform(0, most_seconds):.2f}"
    return chance.choice(
        [
            succeeds(chance.uniform(0, most_seconds)),
            crashes_once(chance.uniform(0, most_seconds)),
            Play(f"report Running\n{nap}\nsignal KILL", "Failed", "Ended by signal 9 (SIGKILL)", starts=2),
            Play(f"{nap}\nexit 3", "Failed", "Exited with code 3 before the flow started", starts=2),
        ]
    )


def any_play(chance: random.Random, most_seconds: float) -> Play:
    """Return a flow run that ends by itself, in one of five ways."""
    nap, code = f"nap {chance.uniform(0, most_seconds):.2f}", chance.randint(1, 99)
    return chance.choice(
        [
            succeeds(chance.uniform(0, most_seconds)),
            Play(f"report Running\n{nap}\nexit {code}", "Failed", f"Exited with code {code}"),
            Play(f"report Running\n{nap}\nsignal KILL", "Failed", "Ended by signal 9 (SIGKILL)"),
            Play(f"{nap}\nexit {code}", "Failed", f"Exited with code {code} before the flow started"),
            Play(nap, "Failed", "Its process ended without ever reporting"),
        ]
    )


def histories(api: Api, runs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the serialized states of each flow run, the first one first."""
    fields = "id states(order_by: {version: asc}) { serialized_state }"
    found = api.graphql(
        f"query($ids: [uuid!]) {{ flow_run(where: {{id: {{_in: $ids}}}}) {{ {fields} }} }}", {"ids": runs}
    )
    return {row["id"]: [state["serialized_state"] for state in row["states"]] for row in found["flow_run"]}


def unfinished(api: Api, runs: Sequence[str]) -> list[str]:
    """Return those of the flow runs that are not in a final state."""
    return [run for run, state in api.states_of(list(runs)).items() if state not in FINAL]


def wrong(api: Api, plays: Mapping[str, Play], starts: Sequence[str]) -> list[str]:
    """Given the play of each flow run and all starts, return a line for each that did not come to what it had to."""
    counts = Counter(starts)
    told = histories(api, list(plays))
    return [
        f"{run} ({' / '.join(play.script.splitlines())}): {problem}; its states: {_in_words(told[run])}"
        for run, play in plays.items()
        for problem in _problems(play, told[run], counts[run])
    ]


def _problems(play: Play, states: list[dict[str, Any]], starts: int) -> list[str]:
    last = states[-1]
    # the same report may land twice where its first answer was lost
    ends = {(state["type"], state["message"]) for state in states if state["type"] in FINAL}
    problems = []
    if starts != play.starts:
        problems.append(f"started {starts} times and not {play.starts}")
    if last["type"] != play.state or not str(last["message"]).startswith(play.message):
        problems.append(f"ended as {last['type']} and not as {play.state}: {play.message}")
    if len(ends) != 1:
        problems.append(f"has {len(ends)} ends")
    return problems


def _in_words(states: list[dict[str, Any]]) -> str:
    return ", ".join(f"{state['type']} ({state['message']})" for state in states)
