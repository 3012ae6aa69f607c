"""What an agent takes up at its start, and what it leaves to others."""

from __future__ import annotations

from pathlib import Path

from local_agent import events
from local_agent.agent.recovery import remembered
from local_agent.store.records import Store, opened
from support import samples


def test_the_run_of_a_launcher_that_is_not_here_is_said_and_left_alone(tmp_path: Path) -> None:
    """As after a change of the settings: taken for one of this launcher's it would seem to have ended."""
    log, mine = samples.ListLog(), samples.record(id="mine", launcher="process")
    unnamed = samples.record(id="unnamed", launcher="")
    theirs = samples.record(id="theirs", launcher="cluster", handle={"version": 1, "job": 7})
    with opened(Store(tmp_path)) as store:
        for record in (mine, theirs, unnamed):
            store.save(record)
        assert remembered(store, {"process"}, log) == (mine, unnamed)
        assert store.load("theirs") == theirs
        assert store.ids() == {"mine", "theirs", "unnamed"}, "so it is not taken from the queue either"
    assert log.events == [events.STATE_PROBLEM]
