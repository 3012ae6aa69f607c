"""What else the agent asks of the API: to be known, what is due, how its runs stand, and to take their log lines."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from api.agent.bed import Bed, after, answer_of, backend_bed, soon
from local_agent.backends.prefect1.detail import detail_of
from local_agent.errors import ApiRefusedError, ApiUnreachableError, CredentialError
from local_agent.model import RunState
from local_agent.plain import MAX_LINE, MAX_TEXT
from local_agent.settings.secret import Secret
from support.api import Api
from support.api_client import wait_until
from support.faults import Exchange, FaultyProxy
from support.samples import FLOW_ID

_QUEUE, _DETAILS, _LOGS = "get_runs_in_queue", "scheduled_start_time", "write_run_logs"


async def _page(bed: Bed) -> Any:  # noqa: ANN401 - a QueuePage
    return await bed.backend.due_runs(bed.clock.now() + timedelta(seconds=10), ())


async def test_the_agent_is_known_to_the_api(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        query = "query($n: String) { agent(where: {name: {_eq: $n}}) { id type labels } }"
        (agent,) = api.graphql(query, {"n": bed.settings.name})["agent"]
        assert agent["type"] == "LocalAgent"
        assert agent["labels"] == [bed.label]
        await bed.due()
        assert api.stats()["agents"][agent["id"]]["operations"][_QUEUE] == 1, "its id travels with its requests"
        await bed.backend.connect()
        assert len(api.graphql(query, {"n": bed.settings.name})["agent"]) == 1


async def test_a_server_without_a_tenant_is_set_up_later(api: Api, proxy: FaultyProxy) -> None:
    proxy.add(answer_of({"tenant": []}), "tenant { id }")
    with pytest.raises(ApiUnreachableError, match="has no tenant yet") as caught:
        async with backend_bed(api, proxy):
            pass
    assert "create-tenant" in caught.value.hint


async def test_one_of_several_tenants_is_named(api: Api, proxy: FaultyProxy) -> None:
    two = [{"id": api.tenant_id}, {"id": str(uuid.uuid4())}]
    proxy.add(answer_of({"tenant": two}), "tenant { id }")
    async with backend_bed(api, proxy) as bed:
        choice = await bed.backend.connect()
        assert "2 tenants" in choice
        assert f"the first, {api.tenant_id}" in choice


async def test_only_what_fits_its_labels_is_due(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        (run,) = bed.create(run_config={"type": "LocalRun", "labels": [bed.label], "env": {"A": "1"}})
        api.create_flow_run(api.create_flow(f"other-{run}", labels=["another"]))
        found = await bed.due()
        assert list(found) == [run]
        assert detail_of(found[run]).run_config.env == {"A": "1"}


async def test_known_runs_are_not_asked_for_again(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        old, new = bed.create(2)
        proxy.reset_counters()
        soon_due = bed.clock.now() + timedelta(seconds=10)
        page = await bed.backend.due_runs(soon_due, {old})
        assert [run.id for run in page.runs] == [new]
        assert page.ids == {old, new}
        page = await bed.backend.due_runs(soon_due, {old, new})
        assert page.runs == ()
        assert proxy.count(_DETAILS) == 1


async def test_a_full_page_says_that_more_may_be_behind_it(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        bed.create(26)
        page = await _page(bed)
        assert (len(page.runs), page.is_full) == (25, True)
        assert [run.due for run in page.runs] == sorted(run.due for run in page.runs)


async def test_what_only_lacks_one_label_is_found_without_taking_it(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, hostname="host1") as bed:
        (mine,) = bed.create()
        lacking = api.create_flow_run(api.create_flow(f"lacking-{mine}", labels=[bed.label, "host1"]))
        bed.clock.advance(10)
        (miss,) = await bed.backend.near_misses({mine})
        assert miss.run.id == lacking
        assert miss.reason == "it has every label of this agent but the hostname label host1"
        assert api.state(lacking) == "Scheduled"


async def test_one_broken_run_hides_no_other(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        broken, good = bed.create(2)
        rows = [
            {"id": broken, "state": "Scheduled", "serialized_state": {}, "flow": {"id": 7}},
            {"id": good, "state": "Scheduled", "serialized_state": {}, "flow": {"id": FLOW_ID}, "version": 1},
        ]
        proxy.add(answer_of({"flow_run": rows}), _DETAILS)
        page = await _page(bed)
        assert [run.id for run in page.runs] == [good]
        reason = "the API's answer cannot be understood: flow.id: int where str is due"
        assert page.problems == (f"flow run {broken}: {reason}",)


@pytest.mark.parametrize(
    ("matching", "data", "path"),
    [
        (_QUEUE, {"get_runs_in_queue": None}, "get_runs_in_queue: missing"),
        (_QUEUE, {"get_runs_in_queue": {"flow_run_ids": 5}}, "get_runs_in_queue.flow_run_ids: int where list is due"),
        (_QUEUE, {}, "get_runs_in_queue: missing"),
        (_DETAILS, {"flow_run": "x"}, "flow_run: str where list is due"),
        (_DETAILS, {"flow_run": ["x"]}, "flow_run[0].id: str where an object is due"),
    ],
)
async def test_a_queue_of_wrong_types_is_an_outage_with_the_path_of_the_field(
    api: Api, proxy: FaultyProxy, matching: str, data: dict[str, Any], path: str
) -> None:
    async with backend_bed(api, proxy) as bed:
        bed.create(2)
        proxy.add(answer_of(data), matching)
        with pytest.raises(ApiUnreachableError) as caught:
            await _page(bed)
        assert caught.value.message == f"the API's answer cannot be understood: {path}"


@pytest.mark.parametrize(
    ("matching", "data", "path"),
    [
        ("tenant { id }", {"tenant": [{"id": 5}]}, "tenant[0].id: int where str is due"),
        ("register_agent", {"register_agent": {"id": None}}, "register_agent.id: missing"),
        ("register_agent", {"register_agent": []}, "register_agent: list where dict is due"),
    ],
)
async def test_a_greeting_of_wrong_types_is_an_outage_too(
    api: Api, proxy: FaultyProxy, matching: str, data: dict[str, Any], path: str
) -> None:
    proxy.add(answer_of(data), matching)
    with pytest.raises(ApiUnreachableError) as caught:
        async with backend_bed(api, proxy):
            pass
    assert caught.value.message == f"the API's answer cannot be understood: {path}"


async def test_a_greeting_goes_on_where_it_failed(api: Api, proxy: FaultyProxy) -> None:
    """With an API that answers every second request each step needs some tries, and all at once would need many."""
    async with backend_bed(api, proxy) as bed:
        before = proxy.count("register_agent")
        proxy.answer(503, "query { hello }")
        for _ in range(3):
            with pytest.raises(ApiUnreachableError):
                await bed.backend.connect()
        proxy.clear()
        await bed.backend.connect()
        assert proxy.count("register_agent") == before + 1
        await bed.backend.connect()
        assert proxy.count("register_agent") == before + 2, "after an outage the API may have forgotten this agent"


async def test_a_root_field_that_is_refused_is_said_in_the_apis_words(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        proxy.answer_errors("relation flow_run does not exist", _QUEUE, code="POSTGRES")
        with pytest.raises(ApiRefusedError, match="relation flow_run does not exist") as caught:
            await _page(bed)
        assert caught.value.code == "POSTGRES"


async def test_live_runs_are_looked_at_in_one_request(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        running, cancelled, waiting, gone = bed.create(4)
        api.set_state(running, "Running")
        api.cancel(cancelled)
        api.delete_flow_run(gone)
        proxy.reset_counters()
        views = await bed.backend.views([running, cancelled, waiting, gone])
        assert proxy.requests == 1
        states = {run: view.state for run, view in views.items()}
        assert states == {
            running: RunState.RUNNING,
            cancelled: RunState.CANCELLED,
            waiting: RunState.WAITING,
            gone: RunState.MISSING,
        }
        assert views[running].heartbeat is not None


async def test_heartbeats_of_many_runs_go_in_one_request(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        runs = bed.create(3)
        before = await bed.backend.views(runs)
        proxy.reset_counters()
        await bed.backend.send_heartbeats(runs)
        assert proxy.requests == 1
        after = await bed.backend.views(runs)
        assert all(after[run].heartbeat != before[run].heartbeat for run in runs)


@asynccontextmanager
async def _flushing(bed: Bed) -> AsyncIterator[None]:
    """Send log lines for the length of the context."""
    task = asyncio.create_task(bed.backend.attend(lambda: None, lambda: None))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _flush(bed: Bed) -> None:
    """Send log lines until the API has taken a request of them."""
    async with _flushing(bed):
        await soon(bed.proxy.add(after(lambda: None), _LOGS).wait_until_finished)


async def test_lines_of_many_runs_share_a_request(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        runs = bed.create(20)
        for run in runs:
            bed.backend.log(run, f"Submitted for execution: {run}")
            bed.backend.log(run, "Exited with code 3", "ERROR")
        await _flush(bed)
        assert proxy.count(_LOGS) == 1
        for run in (runs[0], runs[-1]):
            first, second = api.logs(run)
            assert (first["message"], first["level"]) == (f"Submitted for execution: {run}", "INFO")
            assert (second["message"], second["level"]) == ("Exited with code 3", "ERROR")
            assert first["name"] == bed.settings.name


async def test_lines_wait_for_the_end_of_an_outage(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        (run,) = bed.create()
        bed.backend.log(run, "first")
        outage = proxy.answer(503, _LOGS, times=3)
        async with _flushing(bed):
            await soon(lambda: outage.wait_for_hits(2))
            bed.backend.log(run, "second")
            await soon(lambda: wait_until(lambda: len(api.logs(run)) == 2, lambda: f"{api.messages(run)}"))
        assert api.messages(run) == ["first", "second"]


async def test_lines_that_are_refused_hold_up_no_others(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        (run,) = bed.create()
        refusal = proxy.answer_errors("too large", _LOGS, times=1)
        bed.backend.log(run, "refused")
        async with _flushing(bed):
            await soon(refusal.wait_until_finished)
            bed.backend.log(run, "taken")
            await soon(lambda: wait_until(lambda: api.logs(run), lambda: "nothing came"))
        assert api.messages(run) == ["taken"]


async def test_a_very_long_line_is_cut(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        (run,) = bed.create()
        bed.backend.log(run, "x" * 3_000_000)
        await _flush(bed)
        assert api.messages(run) == ["x" * MAX_TEXT + "..."]


async def test_one_line_that_is_refused_loses_no_others(api: Api, proxy: FaultyProxy) -> None:
    def fault(exchange: Exchange) -> tuple[int, str, bytes]:
        if b"poison" in exchange.body or len(exchange.body) > 4096:
            return 413, "text/html", b"<html>"
        status, body = exchange.forward()
        return status, "application/json", body

    async with backend_bed(api, proxy) as bed:
        (run,) = bed.create()
        proxy.add(fault, _LOGS)
        lines = [f"line {number}" for number in range(50)]
        for line in [*lines[:20], "poison", "y" * 5_000, *lines[20:]]:
            bed.backend.log(run, line)
        async with _flushing(bed):
            wanted = [*lines, "y" * (MAX_LINE - 3) + "..."]
            await soon(lambda: wait_until(lambda: len(api.logs(run)) == len(wanted), lambda: f"{api.messages(run)}"))
        assert sorted(api.messages(run)) == sorted(wanted)


async def test_no_line_is_sent_where_nobody_wants_them(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, cloud_logs=False) as bed:
        (run,) = bed.create()
        bed.backend.log(run, "a line")
        async with _flushing(bed):
            await bed.due()
        assert proxy.count(_LOGS) == 0


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that asks for a key, as Prefect Cloud does."""
    with Api(tmp_path_factory.mktemp("keyed-api") / "server.db", key="s3cret") as running:
        yield running


async def test_with_a_key_the_api_names_the_tenant(keyed: Api) -> None:
    with FaultyProxy(keyed.url) as proxy:
        async with backend_bed(keyed, proxy, api_key=Secret("s3cret")) as bed:
            assert proxy.count("auth_info") == 1
            (run,) = bed.create()
            assert list(await bed.due()) == [run]
            child = await bed.backend.child((await bed.due())[run])
            assert child.env["PREFECT__CLOUD__TENANT_ID"] == keyed.tenant_id


@pytest.mark.parametrize("key", [None, Secret("wrong")], ids=["none", "wrong"])
async def test_without_the_right_key_there_is_nothing(keyed: Api, key: Secret | None) -> None:
    with FaultyProxy(keyed.url) as proxy, pytest.raises(CredentialError):
        async with backend_bed(keyed, proxy, api_key=key):
            pass
