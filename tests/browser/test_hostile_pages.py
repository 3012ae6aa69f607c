"""A real browser on a stranger's page: nothing that it can send changes anything here, or tells anything."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from browser.pages import EVIL, REBOUND, browser, page
from support.agent_address import Agent, served
from support.api import Api

pytestmark = pytest.mark.timeout(240)

_SCRIPT = Path(__file__).with_name("hostile.js").read_text()
API_PATHS = ("/", "/graphql", "/stats", "/health")
AGENT_PATHS = ("/api/health", "/api/poke", "/metrics")
# What would be in whatever a page has read.
REFUSALS = ("400", "403", "413", "421", "501")
SECRETS = ("requests", "operations", "data", "counted", '"status"')


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all."""
    with browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """An agent's address."""
    with served() as one:
        yield one


def creation(api: Api) -> str:
    """Return a request that changes something: a stranger may know the ids."""
    query = f'mutation {{ create_project(input: {{name: "theirs", tenant_id: "{api.tenant_id}"}}) {{ id }} }}'
    return json.dumps({"query": query})


def run(chromium: Chrome, call: str) -> Any:  # noqa: ANN401 - JSON is of any type
    """Run a function of the stranger's script and return what it returns."""
    wrapped = f"const done = arguments[arguments.length - 1]; {_SCRIPT}\n{call}.then(done, e => done(String(e)));"
    return chromium.execute_async_script(wrapped)


def attack(chromium: Chrome, targets: list[str], paths: tuple[str, ...], body: str) -> list[dict[str, str]]:
    """Try everything; return what came of it."""
    given = ", ".join(json.dumps(each) for each in (targets, paths, body))
    found: list[dict[str, str]] = run(chromium, f"attack({given})")
    assert isinstance(found, list), found
    return found


def check(found: list[dict[str, str]], count: int) -> None:
    """Check that every attempt was made, and that none has read or opened anything."""
    assert len(found) >= count
    for attempt in found:
        outcome = attempt["outcome"]
        kind = attempt["name"].split()[0]
        assert outcome not in ("late", "open"), attempt
        assert outcome != "loaded" or kind == "embed", attempt
        if outcome.startswith("read"):
            assert not any(secret in outcome for secret in SECRETS), attempt
            assert kind == "form" or outcome.split()[1] in REFUSALS, attempt


def state(api: Api) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return what strangers could have changed."""
    return api.graphql("{ project { id name } flow { id } flow_run { id } agent { id } }")


def urls(api: Api) -> list[str]:
    """Return the names under which a page reaches the API from its reader's machine."""
    return [api.url, api.url.replace("127.0.0.1", "localhost")]


def test_a_page_of_another_origin_can_do_and_learn_nothing(chromium: Chrome, tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api, page("127.0.0.1") as strange:
        body, before, asked = creation(api), state(api), api.count_requests()
        for host in (EVIL, "127.0.0.1"):
            chromium.get(f"http://{host}:{strange.port}/")
            check(attack(chromium, urls(api), API_PATHS, body), 300)
        # Not one of them has come as far as to be counted: so its time tells nothing either.
        assert api.count_requests() == asked
        assert state(api) == before
        assert "Traceback" not in api.console


def test_a_page_whose_name_leads_here_can_do_and_learn_nothing(chromium: Chrome, tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api, page("127.0.0.2") as strange:
        body, before, asked = creation(api), state(api), api.count_requests()
        chromium.get(f"http://{REBOUND}:{strange.port}/")
        strange.rebind(int(api.url.rpartition(":")[2]))
        found = attack(chromium, [f"http://{REBOUND}:{strange.port}"], API_PATHS, body)
        check(found, 150)
        assert any("421" in attempt["outcome"] for attempt in found)  # it has come here
        assert api.count_requests() == asked
        assert state(api) == before


def test_a_page_can_neither_poke_an_agent_nor_ask_how_it_is(chromium: Chrome, agent: Agent) -> None:
    with page("127.0.0.1") as strange, page("127.0.0.2") as rebound:
        chromium.get(f"http://{EVIL}:{strange.port}/")
        check(attack(chromium, [f"http://127.0.0.1:{agent.port}"], AGENT_PATHS, "{}"), 100)
        chromium.get(f"http://{REBOUND}:{rebound.port}/")
        rebound.rebind(agent.port)
        check(attack(chromium, [f"http://{REBOUND}:{rebound.port}"], AGENT_PATHS, "{}"), 100)
    assert agent.pokes == 0


def test_the_time_of_a_refusal_tells_nothing(chromium: Chrome, tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api, page("127.0.0.1") as strange:
        api.create_flow_runs(api.create_flow(), 200)
        heavy = json.dumps({"query": "{ flow_run { flow { flow_runs { id } } } }"})
        chromium.get(f"http://{EVIL}:{strange.port}/")
        spent = run(chromium, f"times({json.dumps(api.url)}, {json.dumps([heavy, 'x' * len(heavy)])}, 30)")
        assert len(spent[0]) == 30
        medians = [statistics.median(each) for each in spent]
        # Answered, the first took hundreds of milliseconds.
        assert abs(medians[0] - medians[1]) < 50


def test_a_page_that_is_allowed_may_ask(chromium: Chrome, tmp_path: Path) -> None:
    with page("127.0.0.1") as ui, Api(tmp_path / "s.db", options=["--allow-origin", f"http://{EVIL}:{ui.port}"]) as api:
        chromium.get(f"http://{EVIL}:{ui.port}/")
        body = json.dumps('{"query": "{ tenant { slug } }"}')
        options = f'{{method: "POST", headers: {{"Content-Type": "application/json"}}, body: {body}}}'
        read = run(chromium, f"asked({json.dumps(api.url)}, {options})")
        assert read == 'read 200 {"data":{"tenant":[{"slug":"default"}]}}'
