"""What an API may answer: it is understood, or it is a WrongFieldError, and never anything else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_agent.backends.fields import WrongFieldError
from local_agent.backends.prefect3 import parse
from local_agent.backends.prefect3.detail import detail_of
from local_agent.backends.prefect3.states import Kind
from unit.backends.prefect3.samples import OURS, RUN, state_json

_FLOW = "22222222-2222-4222-8222-222222222222"
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _run() -> dict[str, Any]:
    return {
        "id": RUN,
        "name": "brave-otter",
        "flow_id": _FLOW,
        "deployment_id": None,
        "state": state_json("SCHEDULED", details={"scheduled_time": "2026-12-01T00:00:05Z"}),
        "empirical_policy": {"retries": 1, "retry_type": "in_process"},
        "job_variables": {"memory": "1G"},
        "infrastructure_pid": None,
    }


def _verdict() -> dict[str, Any]:
    return {"status": "ACCEPT", "state": state_json("PENDING", nonce=OURS), "details": {"type": "accept_details"}}


_PARSERS: list[tuple[Callable[[Any], object], Callable[[], Any]]] = [
    (lambda obj: parse.due_run(obj, 1.0), _run),
    (parse.run_facts, _run),
    (parse.verdict, _verdict),
    (parse.state, lambda: state_json("RUNNING")),
    (parse.history, lambda: [state_json("RUNNING")]),
    (parse.bulk_verdicts, lambda: {"results": [{"flow_run_id": RUN, **_verdict()}]}),
    (parse.work_pool, lambda: {"id": RUN, "name": "lab", "type": "process", "base_job_template": {}}),
    (lambda rows: parse.each_row(rows, parse.run_facts), lambda: [_run()]),
]


@pytest.mark.parametrize(("parser", "sample"), _PARSERS)
@given(data=st.data())
def test_any_json_is_understood_or_a_wrong_field(
    parser: Callable[[Any], object], sample: Callable[[], Any], data: st.DataObject
) -> None:
    parser(sample())
    answer = _with_one_thing_wrong(sample(), data)
    with contextlib.suppress(WrongFieldError):
        parser(answer)


def _with_one_thing_wrong(obj: Any, data: st.DataObject) -> Any:  # noqa: ANN401 - any JSON
    """Replace something in a document, at any depth, by anything."""
    if isinstance(obj, dict) and obj and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(obj)))
        return {**obj, key: _with_one_thing_wrong(obj[key], data)}
    if isinstance(obj, list) and obj and data.draw(st.booleans()):
        return [_with_one_thing_wrong(obj[0], data), *obj[1:]]
    return data.draw(_json)


def test_a_run_of_the_queue() -> None:
    run = parse.due_run(_run(), 7.0)
    detail = detail_of(run)
    assert (run.id, run.name, run.due.second, run.read_at_seconds) == (RUN, "brave-otter", 5, 7.0)
    assert (detail.flow_id, detail.deployment_id, detail.retry_type) == (_FLOW, "", "in_process")
    assert detail.job_variables == {"memory": "1G"}


def test_a_run_without_a_state() -> None:
    assert parse.run_facts({"id": RUN, "state": None}).state.kind is Kind.UNKNOWN


def test_a_history_is_told_in_the_order_of_arrival() -> None:
    rows = [state_json("RUNNING", 3), state_json("SCHEDULED", 1), state_json("PENDING", 2)]
    assert [state.kind for state in parse.history(rows)] == [Kind.SCHEDULED, Kind.PENDING, Kind.RUNNING]


def test_a_verdict_says_why() -> None:
    told = {"status": "ABORT", "state": None, "details": {"reason": "database is locked"}}
    verdict = parse.verdict(told)
    assert (verdict.status, verdict.state.kind, verdict.reason) == (
        parse.Status.ABORT,
        Kind.UNKNOWN,
        "database is locked",
    )
    with pytest.raises(WrongFieldError, match="status"):
        parse.verdict({"status": "PERHAPS"})


def test_one_row_that_is_wrong_spoils_no_other() -> None:
    other = {**_run(), "id": _FLOW, "state": {"type": 7}}
    rows = parse.each_row([_run(), other], parse.run_facts)
    assert isinstance(rows[RUN], parse.RunFacts)
    assert isinstance(rows[_FLOW], WrongFieldError)
