"""Making the launchers whose flow runs are processes of this machine, as the agent runs here."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from local_agent.launchers import managers, own_service
from local_agent.launchers.parts import Parts
from local_agent.launchers.process import ProcessLauncher
from local_agent.launchers.registry import Opened
from local_agent.launchers.room import MachineRoom
from local_agent.launchers.scope import Place, ScopeLauncher
from local_agent.linux.capacity import shortage_of_tasks
from local_agent.linux.procfs import cgroup_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local_agent.launchers import Launcher
    from local_agent.launchers.registry import Needs, Opener


class _Processes:
    def reason_against(self, needs: Needs) -> str:  # noqa: ARG002 - the Protocol's
        return ""

    @contextlib.asynccontextmanager
    async def open(self, needs: Needs, because: str) -> AsyncIterator[Opened]:
        service = await needs.files.disk.run(lambda: own_service.find(cgroup_of(os.getpid())))
        process = ProcessLauncher(_parts(needs), ends_with=service.unit if service.takes_all_along else "")
        # without scopes, plain processes take up what lives of those that were in one
        takers = {"process": process, "scope": process}
        because = because or SCOPES.reason_against(needs) or "launcher is process"
        yield Opened(process, takers, "no scopes", pids=lambda: process.pids, service=service, because=because)


class _Scopes:
    def reason_against(self, needs: Needs) -> str:
        found = managers.find(os.geteuid(), needs.environ)
        return "" if found.open is not None else found.reason

    @contextlib.asynccontextmanager
    async def open(self, needs: Needs, because: str) -> AsyncIterator[Opened]:  # noqa: ARG002 - the Protocol's
        instance, parts = needs.settings().instance, _parts(needs)
        found = managers.find(os.geteuid(), needs.environ)
        manager = managers.required(found, instance)
        try:
            place = managers.place_of(instance, needs.environ, Place)
            scopes = ScopeLauncher(manager, place, parts, lambda: needs.settings().oom_policy)
            process = ProcessLauncher(parts)
            takers: dict[str, Launcher] = {"process": process, "scope": scopes}
            yield Opened(scopes, takers, found.words, scopes.enclosed, lambda: process.pids)
        finally:
            await manager.close()


def _parts(needs: Needs) -> Parts:
    descriptors, output, uid = needs.descriptors, needs.output, os.geteuid()
    return Parts(
        files=needs.files,
        output=output,
        clock=needs.clock,
        room=MachineRoom(needs.settings, descriptors.live_runs),
        open_files=descriptors.given_on,
        shortage=lambda: descriptors.shortage() or shortage_of_tasks(uid) or output.reason_against(),
    )


PROCESSES: Opener = _Processes()
SCOPES: Opener = _Scopes()
