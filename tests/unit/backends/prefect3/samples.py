"""States and flow runs as a Prefect 3 server tells them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from local_agent.backends.prefect3 import parse
from local_agent.backends.prefect3.parse import RunFacts
from local_agent.backends.prefect3.states import State
from local_agent.model import Record, Step

RUN = "11111111-1111-4111-8111-111111111111"
OURS = "a" * 32
THEIRS = "b" * 32
_BEGAN = datetime(2026, 12, 1, tzinfo=UTC)


def state_json(kind: str, second: float = 0, nonce: str = "", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a state whose request arrived so many seconds after midnight."""
    details = {"transition_id": str(uuid.UUID(hex=nonce)) if nonce else None, **more.pop("details", {})}
    return {
        "id": str(uuid.uuid4()),
        "type": kind,
        "name": kind.capitalize(),
        "timestamp": (_BEGAN + timedelta(seconds=second)).isoformat(),
        "message": None,
        "data": None,
        "state_details": details,
        **more,
    }


def state(kind: str, second: float = 0, nonce: str = "", **more: Any) -> State:  # noqa: ANN401 - JSON
    """The same, parsed."""
    return parse.state(state_json(kind, second, nonce, **more))


def facts(present: State, **more: Any) -> RunFacts:  # noqa: ANN401 - RunFacts' own
    """Return a run that stands at a state."""
    return RunFacts(RUN, present, **more)


def record(**more: Any) -> Record:  # noqa: ANN401 - the Record's own
    """Return the record of our claim."""
    return Record(RUN, "run", "flow", OURS, Step.RUNNING, "boot", _BEGAN, _BEGAN, **more)
