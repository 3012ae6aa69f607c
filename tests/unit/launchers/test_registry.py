"""Which launcher is taken, and what those who only look on learn of a record of any."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from local_agent.aio.clock import SystemClock
from local_agent.aio.threads import Workers
from local_agent.errors import ConfigError
from local_agent.launchers import registry
from local_agent.launchers.belongings import Belongings
from local_agent.launchers.handle import ProcessHandle
from local_agent.launchers.output import JournalOutput
from local_agent.launchers.registry import KINDS, Kind, Needs, Opened
from local_agent.linux.capacity import Descriptors
from local_agent.linux.procfs import identity_of
from local_agent.settings import Settings
from support import samples
from support.lifecycle_bed import Launcher, Plot


class _Opener:
    """Opens a launcher that is good for nothing, or says why it does not."""

    def __init__(self, reason: str = "") -> None:
        self._reason = reason

    def reason_against(self, needs: Needs) -> str:
        """Return what it was given."""
        return self._reason

    @contextlib.asynccontextmanager
    async def open(self, needs: Needs, because: str) -> AsyncIterator[Opened]:
        """Give one."""
        launcher = Launcher(Plot())
        yield Opened(launcher, {launcher.name: launcher}, "a test", because=because)


NO_GOOD, GOOD = _Opener("the bus is gone"), _Opener()
_KINDS = {"first": Kind(f"{__name__}:NO_GOOD"), "second": Kind(f"{__name__}:GOOD")}


@pytest.fixture
def disk() -> Iterator[Workers]:
    """Threads that nobody asks for anything."""
    workers = Workers("test", 1)
    yield workers
    workers.close()


def _needs(disk: Workers, **given: object) -> Needs:
    def settings() -> Settings:
        return samples.settings(**given)

    files = Belongings(Path("/nonexistent").joinpath, disk, lambda *_: None)
    return Needs(settings, {}, files, JournalOutput(), SystemClock(), Descriptors(1024, (1, 1)))


async def test_auto_is_the_first_that_can_be_used_and_says_why_no_earlier_one(disk: Workers) -> None:
    async with registry.opened(_needs(disk, launcher="auto"), _KINDS) as opened:
        assert (opened.words, opened.because) == ("a test", "the bus is gone")


async def test_one_that_is_named_is_taken(disk: Workers) -> None:
    async with registry.opened(_needs(disk, launcher="second"), _KINDS) as opened:
        assert opened.because == ""


async def test_one_that_is_named_and_cannot_be_used_is_no_other(disk: Workers) -> None:
    with pytest.raises(ConfigError, match="launcher: first cannot be used here: the bus is gone"):
        async with registry.opened(_needs(disk, launcher="first"), _KINDS):
            pass


def test_the_setting_knows_each() -> None:
    (_, option) = get_args(get_type_hints(Settings, include_extras=True)["launcher"])
    for name in ("auto", *KINDS):
        assert option.kind.parse(name) == name


def test_who_looks_on_sees_processes_of_this_machine_and_believes_the_record_of_others() -> None:
    mine, nobody = ProcessHandle(identity_of(os.getpid())), ProcessHandle()
    for launcher in ("", "process", "scope"):
        assert registry.seems_alive(samples.record(launcher=launcher, handle=mine.as_json()))
        assert not registry.seems_alive(samples.record(launcher=launcher, handle=nobody.as_json()))
        assert not registry.is_sound(samples.record(launcher=launcher, handle={"job": 7}))
    theirs = samples.record(launcher="cluster", handle={"job": 7})
    assert registry.is_sound(theirs)
    assert registry.seems_alive(theirs)
    assert registry.cgroup_of(theirs) == ""
