"""Which tests a worker of pytest-xdist gets as one. Imported where xdist runs: a run in one process needs none."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from support.side_by_side import scope_of


class FilesAndMachines(LoadScopeScheduling):
    """Gives a worker a file's tests as one; those on Debian 12 and those on Debian 13 apart: each boots its own."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
