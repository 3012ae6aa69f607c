"""The embedded API killed by SIGKILL under load, again and again: nothing that it has acknowledged is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import Api
from support.long_form import is_long_form

pytestmark = pytest.mark.timeout(1800)

_KILLS = 50 if is_long_form() else 3
_STATES_OF_A_LIFE = 200 if is_long_form() else 60
_WRITERS = 8
_SECONDS = 60


class _Acknowledged:
    """Counts what was acknowledged in one life of the API."""

    def __init__(self) -> None:
        self.count = 0
        self.enough = threading.Event()
        self._lock = threading.Lock()

    def add(self) -> None:
        """One more."""
        with self._lock:
            self.count += 1
            if self.count == _STATES_OF_A_LIFE:
                self.enough.set()


def _write_until_gone(api: Api, run: str, all_of_them: _Acknowledged) -> list[str]:
    """Set states until the API is gone, and return the messages of those that were acknowledged."""
    acknowledged: list[str] = []
    try:
        while True:
            message = f"{all_of_them.count}-{len(acknowledged)}-{threading.get_ident()}"
            api.set_state(run, {"type": "Running", "message": message})
            acknowledged.append(message)
            all_of_them.add()
    except Exception as error:
        # Gone between two requests, or in the middle of one.
        if isinstance(error, OSError) or type(error).__module__ == "http.client":
            return acknowledged
        raise


def test_nothing_acknowledged_is_lost_however_often_it_is_killed(tmp_path: Path) -> None:
    total = 0
    with Api(tmp_path / "server.db") as api, ThreadPoolExecutor(_WRITERS) as threads:
        flow = api.create_flow()
        for _ in range(_KILLS):
            runs = api.create_flow_runs(flow, _WRITERS)
            counted = _Acknowledged()
            written = [threads.submit(_write_until_gone, api, run, counted) for run in runs]
            assert counted.enough.wait(_SECONDS)
            api.kill()
            acknowledged = [each.result(_SECONDS) for each in written]
            api.start()
            for run, messages in zip(runs, acknowledged, strict=True):
                kept = [state["message"] for state in api.states(run)[1:]]
                # The last one may be there without having been acknowledged.
                assert kept[: len(messages)] == messages
                assert len(kept) - len(messages) in (0, 1)
            total += sum(map(len, acknowledged))
    assert total >= _KILLS * _STATES_OF_A_LIFE
    print(f"0 of {total} acknowledged states lost in {_KILLS} kills")
