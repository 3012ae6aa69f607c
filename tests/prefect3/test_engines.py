"""Real engines under our boot: flows that succeed, fail and are cancelled, at one real server."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from prefect3.bed import Bed
from support.prefect3_engine import FLOWS, Engine, deployed
from support.prefect3_server import Prefect3Server
from support.prefect3_venv import LAST_2, NEWEST, OLDEST_3

_VERSIONS = (NEWEST, OLDEST_3, LAST_2)


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_flow_with_mapped_tasks_succeeds(bed: Bed, tmp_path: Path, version: str) -> None:
    variable = f"token_{uuid.uuid4().hex}"
    bed.server.ask("POST", "/variables/", {"name": variable, "value": "from-the-api"})
    run = bed.server.create_run(
        deployed(bed.server, "doubled", tmp_path / "notes", pool=bed.name),
        parameters={"numbers": [1, 2, 3]},
        job_variables={"env": {"TOKEN": f"{{{{ prefect.variables.{variable} }}}}"}},
    )
    with Engine(bed.server, run, tmp_path, version) as engine:
        assert engine.ended() == 0, engine.said
    assert bed.server.state(run)["type"] == "COMPLETED"
    [note] = engine.noted("sum")
    assert note.startswith("sum 12 TOKEN=from-the-api ")
    assert f"cwd={tmp_path / run}.scratch" in note


def test_a_flow_that_fails_is_tried_again_and_failed(bed: Bed, tmp_path: Path) -> None:
    run = bed.server.create_run(deployed(bed.server, "stumble", tmp_path / "notes", pool=bed.name))
    with Engine(bed.server, run, tmp_path) as engine:
        engine.ended()
    assert bed.server.history(run)[-1] == "Failed"
    assert "AwaitingRetry" in bed.server.history(run)
    assert len(engine.noted("stumbled")) == 2


@pytest.mark.parametrize("flow", ["nap", "async_nap"])
def test_a_cancelled_flow_ends_cancelled_and_its_hook_runs_once(bed: Bed, tmp_path: Path, flow: str) -> None:
    run = bed.server.create_run(deployed(bed.server, flow, tmp_path / "notes", pool=bed.name))
    with Engine(bed.server, run, tmp_path) as engine:
        napping = engine.wait_for_note("napping")
        engine.cancel()
        engine.interrupt()  # an agent that starts anew tells it once more
        assert engine.ended() == 0, engine.said
    assert bed.server.history(run)[-1] == "Cancelled"
    assert "Crashed" not in bed.server.history(run)
    [hook] = engine.noted("cancellation-hook")
    assert hook.split(" ", 2)[2] == napping.split(" ", 1)[1], "it ran in another process than the flow"
    assert not engine.noted("crashed-hook")


@pytest.mark.parametrize(("version", "hooks"), [(OLDEST_3, 0), (LAST_2, 1)])
def test_an_engine_that_cannot_ask_why_ends_at_once(bed: Bed, tmp_path: Path, version: str, hooks: int) -> None:
    """The rest is the agent's: it sets Cancelled when all processes have ended."""
    run = bed.server.create_run(deployed(bed.server, "nap", tmp_path / "notes", pool=bed.name))
    with Engine(bed.server, run, tmp_path, version) as engine:
        engine.wait_for_note("napping")
        engine.cancel()
        engine.ended()
    assert "Crashed" not in bed.server.history(run)
    assert bed.server.state(run)["type"] in ("CANCELLING", "CANCELLED")
    assert len(engine.noted("cancellation-hook")) == hooks
    assert not engine.noted("crashed-hook")


@pytest.mark.parametrize("version", _VERSIONS)
def test_the_hook_of_a_killed_flow_runs_in_a_process_of_its_own(bed: Bed, tmp_path: Path, version: str) -> None:
    run = bed.server.create_run(deployed(bed.server, "nap", tmp_path / "notes", pool=bed.name))
    with Engine(bed.server, run, tmp_path, version) as engine:
        engine.wait_for_note("napping")
        engine.process.kill()
        engine.ended()
        bed.server.set_state(run, "CRASHED", name="Crashed")
        assert engine.run_hooks() == 0, engine.said
    [hook] = engine.noted("crashed-hook")
    assert hook.startswith("crashed-hook Crashed ")


def test_no_hook_runs_of_what_is_not_crashed(bed: Bed, tmp_path: Path) -> None:
    deployment = deployed(bed.server, "nap", tmp_path / "notes", pool=bed.name)
    run = bed.server.create_run(deployment, parameters={"seconds": 0})
    with Engine(bed.server, run, tmp_path) as engine:
        assert engine.ended() == 0, engine.said
        assert engine.run_hooks() == 0, engine.said
    assert not engine.noted("crashed-hook")


def test_code_comes_by_pull_steps(bed: Bed, tmp_path: Path) -> None:
    repository = _repository(tmp_path / "repository")
    steps = [
        {"prefect.deployments.steps.git_clone": {"repository": repository.as_uri(), "branch": "main", "id": "clone"}},
        {"prefect.deployments.steps.set_working_directory": {"directory": "{{ clone.directory }}/inner"}},
    ]
    run = bed.server.create_run(
        deployed(bed.server, "doubled", tmp_path / "notes", pool=bed.name, path=None, pull_steps=steps),
        parameters={"numbers": [5]},
    )
    with Engine(bed.server, run, tmp_path) as engine:
        assert engine.ended() == 0, engine.said
    assert bed.server.state(run)["type"] == "COMPLETED"
    [note] = engine.noted("sum")
    assert f"cwd={tmp_path / run}.scratch/repository-main/inner" in note


def test_a_secret_block_is_in_the_environment_and_in_no_argument(bed: Bed, tmp_path: Path) -> None:
    name = f"token-{uuid.uuid4().hex}"
    _secret(bed.server, name, "s3cret")
    run = bed.server.create_run(
        deployed(bed.server, "doubled", tmp_path / "notes", pool=bed.name),
        parameters={"numbers": []},
        job_variables={"env": {"TOKEN": f"<{{{{ prefect.blocks.secret.{name} }}}}>"}},
    )
    with Engine(bed.server, run, tmp_path) as engine:
        assert not any("s3cret" in str(word) for word in engine.process.args)  # type: ignore[union-attr]
        assert engine.ended() == 0, engine.said
    assert engine.noted("sum")[0].startswith("sum 0 TOKEN=<s3cret> ")


def test_a_name_that_is_not_ascii(bed: Bed, tmp_path: Path) -> None:
    run = bed.server.create_run(deployed(bed.server, "size", tmp_path / "notes", pool=bed.name))
    with Engine(bed.server, run, tmp_path) as engine:
        engine.ended()
    assert engine.noted("sized"), engine.said


def _repository(folder: Path) -> Path:
    """Make a git repository with the flows in a folder of it."""
    inner = folder / "inner"
    inner.mkdir(parents=True)
    (inner / FLOWS.name).write_bytes(FLOWS.read_bytes())
    who = ("-c", "user.name=lab", "-c", "user.email=lab@example.com")
    for command in (("init", "-qb", "main"), ("add", "."), (*who, "commit", "-qm", "flows")):
        subprocess.run(["git", "-C", folder, *command], check=True)
    return folder


def _secret(server: Prefect3Server, name: str, value: str) -> None:
    """Make a block of the type that comes with every server."""
    kind = server.ask("GET", "/block_types/slug/secret")["id"]
    schemas = server.ask("POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    body = {"name": name, "data": {"value": value}, "block_schema_id": schemas[0]["id"], "block_type_id": kind}
    server.ask("POST", "/block_documents/", body)
