"""Flow runs that flow runs of this agent have created: each may have its parent's place, who only waits for it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from local_agent.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from local_agent.agent.admission import Admission
    from local_agent.backends import RunQueue


class AllBut(AbstractSet[str]):
    """The set that every id is in but some. Where a page's details are asked less what is known: these some alone."""

    def __init__(self, some: AbstractSet[str] = frozenset()) -> None:
        self._some = some

    def __contains__(self, item: object) -> bool:
        return item not in self._some

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Kinship:
    """Remembers who created which of the flow runs that are due."""

    def __init__(self, backend: RunQueue, admission: Admission) -> None:
        self._backend = backend
        self._admission = admission
        self._parents: dict[str, str] = {}  # by child; "" where nobody here is known to have created it

    async def takers(self, due: Collection[str]) -> Mapping[str, str]:
        """Given flow runs that are due while all places are taken, return those that may be taken, with their parents.

        Of several with one parent it is the first: it has one place to give. Where the API does not tell, none.
        """
        self._parents = {run_id: parent for run_id, parent in self._parents.items() if run_id in due}
        unknown = [run_id for run_id in due if run_id not in self._parents]
        if unknown:
            self._parents.update({**dict.fromkeys(unknown, ""), **await self._ask(unknown)})
        takers: dict[str, str] = {}
        for run_id in due:
            parent = self._parents[run_id]
            if parent not in takers.values() and self._admission.may_lend(parent):
                takers[run_id] = parent
        return takers

    async def _ask(self, ids: Collection[str]) -> Mapping[str, str]:
        try:
            return await self._backend.parents(ids)
        except LocalAgentError:
            return {}
