"""Ends in words."""

from __future__ import annotations

import pytest

from local_agent.limits import Limits
from local_agent.model import Cause, Cost, End
from local_agent.wording import cost_sentence, in_bytes, in_time, sentence

_GIB = 1024**3


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(Cause.EXITED, exit_code=3), "Exited with code 3"),
        (End(Cause.SIGNALLED, signal=9), "Ended by signal 9 (SIGKILL)"),
        (End(Cause.SIGNALLED, signal=40), "Ended by signal 40"),
        (End(Cause.OUT_OF_MEMORY), "Killed by the kernel: out of memory"),
        (
            End(
                Cause.OUT_OF_MEMORY,
                cost=Cost(memory_peak_bytes=4 * _GIB, oom_kills=3),
                limits=Limits(memory_max_bytes=4 * _GIB),
            ),
            "Killed by the kernel: out of memory (peak 4.0 GiB, 4.0 GiB allowed, 3 kills)",
        ),
        (End(Cause.DEADLINE), "Ran longer than it may"),
        (End(Cause.DEADLINE, limits=Limits(runtime_max_seconds=5400)), "Ran longer than 1h 30min"),
        (End(Cause.STOPPED), "Stopped on this host with systemctl"),
        (End(Cause.NEVER_STARTED), "Its process was never started"),
    ],
)
def test_an_end_in_a_sentence(end: End, words: str) -> None:
    assert sentence(end) == words


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_sentence_without_a_full_stop(cause: Cause) -> None:
    assert sentence(End(cause, exit_code=1, signal=9))
    assert not sentence(End(cause, exit_code=1, signal=9)).endswith(".")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (0.4, "0s"), (45, "45s"), (60, "1min"), (61, "1min 1s"), (3600, "1h"), (90061, "1d 1h 1min 1s")],
)
def test_a_time_span(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (4187593113, "3.9 GiB"), (5 * 1024**4, "5.0 TiB")],
)
def test_a_number_of_bytes(count: int | None, words: str) -> None:
    assert in_bytes(count) == words


def test_a_cost_names_only_what_was_counted() -> None:
    assert cost_sentence(Cost()) == ""
    assert cost_sentence(Cost(cpu_seconds=1.23, written_bytes=2048)) == "1.2 s of CPU, 2.0 KiB written"
    assert cost_sentence(Cost(0.0, 1024, 0, 0)) == "0.0 s of CPU, 1.0 KiB of memory at its peak"
