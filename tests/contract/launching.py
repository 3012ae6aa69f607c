"""What `Launcher` and `LiveRun` promise, as checks that know no launcher: each takes a fresh ground."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from contract.ground import Ground
from local_agent.errors import LaunchError
from local_agent.launchers import Launcher, LiveRun
from local_agent.limits import Limits
from local_agent.model import Cause, End, Record, Step
from local_agent.store.record_format import lines_of, record_in

_MAX_SECONDS = 60.0
_LOOK_SECONDS = 0.02


async def _launched(ground: Ground, code: int = 0, *, heeds: bool = True) -> tuple[Launcher, Record, LiveRun]:
    """Launch it, and return it at its gate with the record that is on the disk then."""
    launcher = ground.launcher()
    run = await launcher.launch(ground.record, ground.child(code, heeds=heeds), Limits())
    record = replace(ground.record, step=Step.RUNNING, launcher=launcher.name, handle=run.handle)
    return launcher, record_in(lines_of(record)), run


async def _running(ground: Ground, code: int = 0, *, heeds: bool = True) -> tuple[Launcher, Record, LiveRun]:
    launcher, record, run = await _launched(ground, code, heeds=heeds)
    run.open_gate()
    await until(lambda: ground.begun == 1)
    return launcher, record, run


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + _MAX_SECONDS
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(_LOOK_SECONDS)


async def _seen_through(run: LiveRun) -> End:
    """Watch it to its end, as a story does."""
    async with asyncio.timeout(_MAX_SECONDS):
        await run.ended()
        await run.sweep()
        end = await run.evidence()
        await run.release()
    return end


async def _adopted(ground: Ground, record: Record) -> End:
    """Learn in a new life of the agent how it ended, whether it has already or is about to."""
    launcher = ground.launcher()
    found = await launcher.adopt(record)
    if not isinstance(found, End):
        return await _seen_through(found)
    await launcher.forget(record)
    return found


async def it_begins_when_its_gate_opens_and_its_end_is_known(ground: Ground) -> None:
    """From its launch to its end, with nothing kept of it."""
    _, _, run = await _launched(ground, code=3)
    assert ground.begun == 0
    run.open_gate()
    ground.let_end()
    end = await _seen_through(run)
    assert (end.cause, end.exit_code, ground.begun) == (Cause.EXITED, 3, 1)
    assert list(ground.left()) == []


async def a_clean_end_is_one(ground: Ground) -> None:
    """Exit code 0."""
    _, _, run = await _running(ground)
    ground.let_end()
    assert (await _seen_through(run)).is_clean


async def a_gate_that_was_shut_never_opens(ground: Ground) -> None:
    """And leaves nothing."""
    _, _, run = await _launched(ground)
    await run.abandon()
    assert (ground.is_gone(), ground.begun, list(ground.left())) == (True, 0, [])


async def its_handle_is_json_and_its_place_has_a_name(ground: Ground) -> None:
    """The handle says its version."""
    launcher, record, run = await _launched(ground)
    assert json.loads(json.dumps(run.handle)) == record.handle == run.handle
    assert isinstance(run.handle["version"], int)
    assert run.where
    assert launcher.name == record.launcher
    await run.abandon()


async def another_life_adopts_it(ground: Ground) -> None:
    """With the record alone. It goes on meanwhile and knows nothing of it."""
    _, record, run = await _running(ground, code=3)
    ground.lose(run)
    later = ground.launcher()
    found = await later.adopt(record)
    assert not isinstance(found, End)
    assert found.where
    ground.let_end()
    end = await _seen_through(found)
    assert (end.cause, end.exit_code, ground.begun) == (Cause.EXITED, 3, 1)
    assert list(ground.left()) == []


async def to_be_adopted_again_is_harmless(ground: Ground) -> None:
    """While it lives, and when it has ended."""
    _, record, run = await _running(ground, code=3)
    ground.lose(run)
    for _ in range(2):
        found = await ground.launcher().adopt(record)
        assert not isinstance(found, End)
        ground.lose(found)
    ground.let_end()
    await until(ground.is_gone)
    for _ in range(2):
        again = await ground.launcher().adopt(record)
        assert isinstance(again, End)
        assert (again.cause, again.exit_code) == (Cause.EXITED, 3)
    await ground.launcher().forget(record)
    assert list(ground.left()) == []


async def to_be_forgotten_again_is_harmless(ground: Ground) -> None:
    """Also where there never was anything."""
    _, record, run = await _running(ground)
    ground.let_end()
    await _seen_through(run)
    for one in (record, ground.record):
        await ground.launcher().forget(one)
        await ground.launcher().forget(one)
    assert list(ground.left()) == []


async def an_agent_that_dies_at_the_gate_starts_nothing(ground: Ground) -> None:
    """Its record says running, and its gate never opened."""
    _, record, run = await _launched(ground)
    ground.lose(run)
    end = await _adopted(ground, record)
    assert (end.cause, ground.begun) == (Cause.NEVER_STARTED, 0)
    await until(ground.is_gone)


async def an_agent_that_dies_before_its_record_starts_nothing(ground: Ground) -> None:
    """Its record says claiming, and what was launched is found without a handle."""
    _, _, run = await _launched(ground)
    ground.lose(run)
    end = await ground.launcher().adopt(ground.record)
    assert isinstance(end, End)
    assert end.cause is Cause.NEVER_STARTED
    await until(ground.is_gone)
    await ground.launcher().forget(ground.record)
    assert ground.begun == 0


async def a_claim_that_came_to_no_launch_never_started(ground: Ground) -> None:
    """Nothing is there to be found."""
    end = await ground.launcher().adopt(ground.record)
    assert isinstance(end, End)
    assert end.cause is Cause.NEVER_STARTED


async def whoever_is_stopped_was_cancelled(ground: Ground) -> None:
    """At once where it heeds the request."""
    _, _, run = await _running(ground)
    await run.stop(_MAX_SECONDS)
    assert (await _seen_through(run)).cause is Cause.CANCELLED
    assert ground.is_gone()


async def whoever_does_not_heed_is_killed(ground: Ground) -> None:
    """After the grace."""
    _, record, run = await _running(ground, heeds=False)
    ground.lose(run)
    found = await ground.launcher().adopt(record)
    assert not isinstance(found, End)
    await found.stop(0.2)
    assert (await _seen_through(found)).cause is Cause.CANCELLED
    assert ground.is_gone()


async def whoever_is_interrupted_ends_by_itself(ground: Ground) -> None:
    """Where it heeds it; else it goes on."""
    _, _, run = await _running(ground)
    run.interrupt()
    assert (await _seen_through(run)).cause is Cause.CANCELLED


async def whoever_does_not_heed_an_interrupt_goes_on(ground: Ground) -> None:
    """It may still end well."""
    _, _, run = await _running(ground, heeds=False)
    run.interrupt()
    ground.let_end()
    assert (await _seen_through(run)).is_clean


async def it_stays_in_its_place_and_what_it_uses_may_be_asked(ground: Ground) -> None:
    """Also of one that has ended."""
    _, _, run = await _running(ground)
    for _ in range(2):
        run.usage()
        assert run.end_if_outside() == ""
        ground.let_end()
        await run.ended()
    await _seen_through(run)


async def one_without_a_record_is_found(ground: Ground) -> None:
    """By a life of the agent that does not know it; what it finds can be adopted."""
    _, record, run = await _running(ground, code=3)
    ground.lose(run)
    later = ground.launcher()
    assert list(later.lost({record.id}, leftovers=True)) == []
    (lost,) = later.lost(frozenset(), leftovers=True)
    assert (lost.id, bool(lost.where)) == (record.id, True)
    new_record = replace(record, launcher=lost.launcher, handle=lost.handle, nonce="")
    found = await later.adopt(record_in(lines_of(new_record)))
    assert not isinstance(found, End)
    ground.let_end()
    assert (await _seen_through(found)).exit_code == 3


async def a_folder_that_is_not_there_is_the_flow_runs_fault(ground: Ground) -> None:
    """And nothing is left of it once it is forgotten."""
    launcher = ground.launcher()
    try:
        await launcher.launch(ground.record, replace(ground.child(), working_dir=Path("/nonexistent")), Limits())
    except LaunchError as error:
        assert "/nonexistent" in error.message  # noqa: PT017 - there is no pytest where this may run
    else:
        raise AssertionError
    await launcher.forget(ground.record)
    assert (ground.is_gone(), list(ground.left())) == (True, [])


async def one_may_have_a_folder_of_its_own(ground: Ground) -> None:
    """Which goes with it."""
    launcher = ground.launcher()
    run = await launcher.launch(ground.record, replace(ground.child(3), working_dir=None), Limits())
    run.open_gate()
    ground.let_end()
    assert (await _seen_through(run)).exit_code == 3
    assert list(ground.left()) == []


async def what_a_reboot_ends_is_the_launchers_to_say(ground: Ground) -> None:
    """A boot of this machine may mean nothing where flow runs run."""
    launcher = ground.launcher()
    assert launcher.may_live(ground.record)
    assert launcher.may_live(replace(ground.record, boot_id="another")) is launcher.outlives_reboot


async def there_is_room_and_nothing_is_against_it(ground: Ground) -> None:
    """As nothing was asked for and nothing runs."""
    launcher = ground.launcher()
    assert launcher.room(0) == ""
    launcher.note_taken()
    assert await launcher.reason_against(in_doubt=True) == ""
    assert launcher.ends_with == "" or launcher.ends_with.endswith(".service")


CHECKS: Mapping[str, Callable[[Ground], Awaitable[None]]] = {
    check.__name__: check
    for check in (
        it_begins_when_its_gate_opens_and_its_end_is_known,
        a_clean_end_is_one,
        a_gate_that_was_shut_never_opens,
        its_handle_is_json_and_its_place_has_a_name,
        another_life_adopts_it,
        to_be_adopted_again_is_harmless,
        to_be_forgotten_again_is_harmless,
        an_agent_that_dies_at_the_gate_starts_nothing,
        an_agent_that_dies_before_its_record_starts_nothing,
        a_claim_that_came_to_no_launch_never_started,
        whoever_is_stopped_was_cancelled,
        whoever_does_not_heed_is_killed,
        whoever_is_interrupted_ends_by_itself,
        whoever_does_not_heed_an_interrupt_goes_on,
        it_stays_in_its_place_and_what_it_uses_may_be_asked,
        one_without_a_record_is_found,
        a_folder_that_is_not_there_is_the_flow_runs_fault,
        one_may_have_a_folder_of_its_own,
        what_a_reboot_ends_is_the_launchers_to_say,
        there_is_room_and_nothing_is_against_it,
    )
}
