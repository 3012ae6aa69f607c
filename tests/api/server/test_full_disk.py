"""A data file that cannot grow any more."""

from __future__ import annotations

from api.server.local import LocalApi

# Of a body that is still parsed with others.
BIG = "x" * 60_000


def allow_pages(api: LocalApi, more: int | None) -> None:
    """Let the data file grow by so many pages from now on; None: as it likes."""
    connection = api.database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {2**30 if more is None else pages + more}")


def test_a_full_disk_undoes_the_whole_request(api: LocalApi) -> None:
    first, second = api.create_flow_runs(api.create_flow(), 2)
    allow_pages(api, 10)
    variables = {
        "a": {"states": [{"flow_run_id": first, "state": {"type": "Running"}}]},
        "b": {"states": [{"flow_run_id": first, "state": {"type": "Failed", "message": BIG}}]},
        "c": {"states": [{"flow_run_id": second, "state": {"type": "Running"}}]},
    }
    declared = ", ".join(f"${name}: set_flow_run_states_input!" for name in variables)
    fields = " ".join(f"{name}: set_flow_run_states(input: ${name}) {{ states {{ id }} }}" for name in variables)
    status, answer = api.post({"query": f"mutation({declared}) {{ {fields} }}", "variables": variables})
    assert status == 500
    assert "database or disk is full" in answer["errors"][0]["message"]
    assert any("database or disk is full" in line for line in api.said)
    assert api.states_of([first, second]) == {first: "Scheduled", second: "Scheduled"}
    allow_pages(api, None)
    api.set_state(second, {"type": "Failed", "message": BIG})
    assert api.state(second) == "Failed"


def test_a_claim_that_had_no_place_can_be_made_again(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow())
    allow_pages(api, 10)
    given = {"states": [{"flow_run_id": run, "state": {"type": "Submitted", "message": BIG}}]}
    query = "mutation($i: set_flow_run_states_input!) { set_flow_run_states(input: $i) { states { status } } }"
    status, _ = api.post({"query": query, "variables": {"i": given}})
    assert (status, api.state(run)) == (500, "Scheduled")
    allow_pages(api, None)
    api.set_state(run, "Submitted")
    assert "already been submitted" in str(api.errors(query, {"i": given}))
