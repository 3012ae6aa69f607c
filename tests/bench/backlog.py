"""How long each operation of the embedded API takes with 100 flow runs in its file and with 100,000, in this process.

    PYTHONPATH=src:tests python tests/bench/backlog.py [COUNT]

Prints a table for BENCHMARKS.md: the fastest of many, with few and with many runs in turn, which the machine's other
work disturbs least. That nothing grows is tested by counting SQLite's steps (tests/api/server/test_growth.py).
"""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from api.server.local import LocalApi, local_api
from api.server.test_growth import OPERATIONS, Filled

_FEW = 100
_TIMES = 150
_RUNS_AT_ONCE = 5_000


class Backlog(Filled):
    """As in the test, with a history of each run as well."""

    def __init__(self, api: LocalApi, count: int) -> None:
        flow = api.create_flow("before", labels=["nobody"])
        for begun in range(0, count, _RUNS_AT_ONCE):
            _fill(api, flow, min(_RUNS_AT_ONCE, count - begun))
        super().__init__(api, 0)


def _fill(api: LocalApi, flow: str, count: int) -> None:
    state = {"type": "Scheduled"}
    with api.database.transaction(writes=True):
        for _ in range(count):
            run_id, now = str(uuid.uuid4()), api.database.now()
            common = {"tenant_id": api.tenant_id, "version": 1, "state": "Scheduled", "serialized_state": state}
            api.database.insert(
                "flow_run",
                id=run_id,
                flow_id=flow,
                labels=["nobody"],
                parameters={},
                context={},
                scheduled_start_time=now,
                name="due-run",
                state_start_time=now,
                **common,
            )
            api.database.insert("flow_run_state", flow_run_id=run_id, timestamp=now, **common)
    api.database.commit()


def _ms(operation: Callable[[Filled], object], on: Filled) -> float:
    begun = time.perf_counter()
    operation(on)
    return (time.perf_counter() - begun) * 1000


def _line(name: str, few: Filled, many: Filled) -> str:
    operation = OPERATIONS[name]
    taken = [(_ms(operation, few), _ms(operation, many)) for _ in range(_TIMES)]
    few_ms, many_ms = (min(each) for each in zip(*taken, strict=True))
    return f"| {name} | {few_ms:.2f} | {many_ms:.2f} | {many_ms / few_ms:.2f} |"


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with local_api(folder / "few.db") as few_api, local_api(folder / "many.db") as many_api:
            few, many = Backlog(few_api, _FEW), Backlog(many_api, count)
            print(f"| operation | {_FEW} runs, ms | {count:,} runs, ms | ratio |\n| --- | --- | --- | --- |")
            for each in OPERATIONS:
                if each != "by name":  # here all have the same
                    print(_line(each, few, many))


if __name__ == "__main__":
    main()
