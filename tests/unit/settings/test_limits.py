"""What a flow run may use: its hints, the defaults, the ceilings."""

from __future__ import annotations

import pytest

from local_agent.limits import Limits
from local_agent.settings.limits import parse_hints

GIGABYTE = 1 << 30
NONE = Limits()


def test_every_hint_is_understood() -> None:
    env = {
        "LOCAL_AGENT_MEMORY_MAX": "4G",
        "LOCAL_AGENT_MEMORY_HIGH": "3G",
        "LOCAL_AGENT_CPU_QUOTA": "150%",
        "LOCAL_AGENT_CPU_WEIGHT": "50",
        "LOCAL_AGENT_IO_WEIGHT": 60,
        "LOCAL_AGENT_TASKS_MAX": "100",
        "LOCAL_AGENT_RUNTIME_MAX": "6h 30min",
        "LOCAL_AGENT_NICE": "5",
        "OTHER": "x",
    }
    limits, problems = parse_hints(env, NONE, NONE)
    assert limits == Limits(4 * GIGABYTE, 3 * GIGABYTE, 150, 50, 60, 100, 23400.0, 5)
    assert problems == ()


def test_no_hint_is_the_default() -> None:
    defaults = Limits(memory_max_bytes=GIGABYTE, nice=3)
    assert parse_hints({}, defaults, NONE) == (defaults, ())
    assert parse_hints({"LOCAL_AGENT_NICE": ""}, defaults, NONE) == (defaults, ())


def test_a_bad_hint_is_said_and_leaves_the_default() -> None:
    limits, problems = parse_hints({"LOCAL_AGENT_MEMORY_MAX": "lots"}, Limits(memory_max_bytes=GIGABYTE), NONE)
    assert limits.memory_max_bytes == GIGABYTE
    (problem,) = problems
    assert problem.startswith('LOCAL_AGENT_MEMORY_MAX: "lots" is not a size')
    assert problem.endswith("the default is used: 1G")


@pytest.mark.parametrize(
    ("hint", "expected", "said"),
    [
        ("2G", 2 * GIGABYTE, False),
        ("8G", 4 * GIGABYTE, True),
        ("none", 4 * GIGABYTE, False),
        (None, 4 * GIGABYTE, False),
    ],
)
def test_nothing_goes_above_the_ceiling(hint: str | None, expected: int, said: bool) -> None:
    env = {} if hint is None else {"LOCAL_AGENT_MEMORY_MAX": hint}
    limits, problems = parse_hints(env, NONE, Limits(memory_max_bytes=4 * GIGABYTE))
    assert limits.memory_max_bytes == expected
    assert bool(problems) is said


def test_the_ceiling_of_nice_is_its_lowest_value() -> None:
    ceiling = Limits(nice=5)
    assert parse_hints({"LOCAL_AGENT_NICE": "10"}, NONE, ceiling)[0].nice == 10
    assert parse_hints({"LOCAL_AGENT_NICE": "-5"}, NONE, ceiling)[0].nice == 5
    assert parse_hints({}, NONE, ceiling)[0].nice == 5
    assert parse_hints({}, NONE, Limits(nice=-5))[0].nice is None


def test_a_weight_of_none_is_a_hundred() -> None:
    assert parse_hints({}, NONE, Limits(cpu_weight=200))[0].cpu_weight is None
    assert parse_hints({}, NONE, Limits(cpu_weight=50))[0].cpu_weight == 50


def test_a_misspelt_hint_is_said() -> None:
    _, problems = parse_hints({"LOCAL_AGENT_MEMROY_MAX": "1G", "LOCAL_AGENT_API": "x"}, NONE, NONE)
    assert problems == ("LOCAL_AGENT_MEMROY_MAX: there is no such hint; did you mean LOCAL_AGENT_MEMORY_MAX?",)
