"""The records of flow runs on disk."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local_agent.errors import ConfigError, StateError
from local_agent.launchers.handle import ProcessHandle
from local_agent.limits import Limits
from local_agent.model import Cause, Cost, End, ProcessIdentity, Record, Step
from local_agent.store.record_format import lines_of, record_in
from local_agent.store.records import Store, opened
from support import samples

_FULL = samples.record(
    step=Step.ENDED,
    launcher="scope",
    handle=ProcessHandle(ProcessIdentity(42, 123456, "this-boot"), "flow-run-1.scope").as_json(),
    limits=Limits(memory_max_bytes=1024, runtime_max_seconds=1.5),
    end=End(
        Cause.OUT_OF_MEMORY,
        signal=9,
        cost=Cost(1.5, 1024, None, 7, 2),
        limits=Limits(memory_max_bytes=1024),
        last_lines=("a", "b"),
    ),
    ticket={"task_runs": ["t1", "t2"]},
    sends_heartbeat=False,
    due=datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that nobody holds."""
    fresh = Store(tmp_path / "state")
    with opened(fresh):
        return fresh


@pytest.mark.parametrize("record", [samples.record(step=Step.CLAIMING), _FULL], ids=["bare", "full"])
def test_a_record_comes_back_as_it_went(store: Store, record: Record) -> None:
    store.save(record)
    assert store.load_all() == ((record,), ())


@pytest.mark.parametrize(
    "ticket", [{}, {"version": 3}, {"version": 3, "task_runs": ["t"], "more": {"a": [1, None]}}, {"claim": "x"}]
)
def test_a_ticket_is_its_backends_own(ticket: dict[str, object]) -> None:
    """What 0.1.0 has of one as fields goes where that finds it; the rest is out of its sight."""
    record = samples.record(backend="of some kind", ticket=ticket)
    lines = lines_of(record)
    assert record_in(lines) == record
    seen_by_the_first = json.loads(lines.splitlines()[-1])
    assert {"version", "task_runs", "sends_heartbeat"} < seen_by_the_first.keys()
    assert not {"ticket", "backend", "claim", "more"} & seen_by_the_first.keys()


def test_a_record_that_names_no_backend_is_of_the_only_one_there_was() -> None:
    golden = (Path(__file__).parent / "golden" / "record-format-1.json").read_bytes()
    assert record_in(golden).backend == "prefect1"
    assert record_in(lines_of(samples.record(nonce="", backend=""))).backend == ""


def test_claims_of_a_page_come_back(store: Store) -> None:
    records = [samples.record(id=f"run-{number}", step=Step.CLAIMING) for number in range(3)]
    assert store.save_claims(records) == [None, None, None]
    assert store.load_all()[0] == tuple(records)


def test_of_records_that_are_saved_together_each_has_an_outcome_of_its_own(store: Store) -> None:
    records = [samples.record(id=f"run-{number}", step=Step.RUNNING) for number in range(3)]
    store.base_of("run-1").with_suffix(".json").mkdir()
    outcomes = store.save_all(records)
    assert [type(outcome) for outcome in outcomes] == [type(None), StateError, type(None)]
    assert store.load("run-0") == records[0]
    assert store.load("run-2") == records[2]


def test_the_newest_save_counts_and_leaves_no_other_file(store: Store) -> None:
    store.save(_FULL)
    store.save(replace(_FULL, step=Step.RUNNING, end=None))
    assert [path.name for path in store.base_of("x").parent.iterdir()] == [f"{_FULL.id}.json"]
    assert store.load_all()[0][0].step is Step.RUNNING


def test_what_is_forgotten_is_gone_and_may_be_forgotten_again(store: Store) -> None:
    store.save(_FULL)
    store.remove(_FULL.id)
    store.remove(_FULL.id)
    assert store.load_all() == ((), ())


def test_records_are_nobody_elses_business(store: Store) -> None:
    store.save(_FULL)
    path = store.base_of(_FULL.id).with_suffix(".json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "\0" * 600,
        "[]",
        "null",
        "{}",
        '{"format": 0}',
        json.dumps({"format": 1, "step": "dancing"}),
        json.dumps({"format": 1, "step": "claiming", "unheard_of": 1}),
    ],
)
def test_what_is_no_record_is_said_and_put_aside(store: Store, text: str) -> None:
    path = store.base_of("broken").with_suffix(".json")
    path.write_text(text)
    store.save(_FULL)
    records, problems = store.load_all()
    assert records == (_FULL,)
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert path.with_suffix(".json.unreadable").read_text() == text
    assert store.load_all() == ((_FULL,), ()), "and said once"


@pytest.mark.parametrize("torn", ['\n{"format": 1, "ste', "\n", "\n{"])
def test_of_a_record_the_last_whole_line_counts(store: Store, torn: str) -> None:
    claim = replace(_FULL, step=Step.CLAIMING, end=None)
    store.save(claim)
    path = store.base_of(_FULL.id).with_suffix(".json")
    with path.open("a") as file:
        file.write(torn)
    assert store.load_all() == ((claim,), ())
    store.save(_FULL)
    assert store.load_all() == ((_FULL,), ()), "what comes after it is whole again"
    assert store.load(_FULL.id) == _FULL


def test_a_record_without_its_first_word_was_none(store: Store) -> None:
    """Killed just then, nothing had been sent."""
    path = store.base_of("other").with_suffix(".json")
    path.touch()
    assert store.load_all() == ((), ())
    assert not path.exists()


def test_a_newer_versions_line_is_not_passed_over(store: Store) -> None:
    store.save(_FULL)
    path = store.base_of(_FULL.id).with_suffix(".json")
    path.write_text(path.read_text() + '\n{"format": 3}')
    records, problems = store.load_all()
    assert records == ()
    assert "written by a later version" in problems[0]
    assert path.exists(), "it stays as it is, for the version that can read it"
    assert store.ids() == {_FULL.id}


def test_a_record_of_each_format_is_read_as_it_was_meant(store: Store) -> None:
    """The file as 0.1.0 has written it; it never changes."""
    golden = (Path(__file__).parent / "golden" / "record-format-1.json").read_bytes()
    assert record_in(golden) == _FULL
    assert lines_of(_FULL).splitlines()[-1] == golden.strip(), "and so it is written to this day"


def test_what_another_version_added_is_kept_and_written_back(store: Store) -> None:
    store.save(_FULL)
    path = store.base_of(_FULL.id).with_suffix(".json")
    obj = json.loads(path.read_text().splitlines()[-1])
    obj["colour"] = {"of": ["it"]}
    obj["process"]["namespace"] = 7
    obj["end"]["cost"]["energy_joule"] = 1.5
    path.write_text(f"\n{json.dumps(obj)}\n")
    ((record,), problems) = store.load_all()
    assert problems == ()
    assert record.handle["process"] == {**obj["process"], "namespace": 7}
    assert replace(record, unknown={}, handle=_FULL.handle) == _FULL
    store.save(replace(record, name="another"))
    ((again,), _) = store.load_all()
    assert again.name == "another"
    assert again.handle == record.handle
    assert again.unknown == {
        "colour": {"of": ["it"]},
        "end": {"cost": {"energy_joule": 1.5}},
    }


_JOB = samples.record(launcher="cluster", handle={"version": 3, "job": 7, "hosts": ["n1"]})


def test_a_handle_of_another_launcher_comes_back(store: Store) -> None:
    store.save(_JOB)
    assert store.load_all() == ((_JOB,), ())


def test_what_must_outlast_a_power_cut_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    assert store.save_all([_FULL]) == [None]
    assert synced == []
    assert store.save_all([_JOB], durable=True) == [None]
    assert len(synced) == 1
    assert store.load(_JOB.id) == _JOB


@pytest.mark.parametrize("step", [Step.CLAIMING, Step.RUNNING])
def test_an_older_version_leaves_what_it_cannot_find_alone(step: Step) -> None:
    """It knows formats up to 1. A record without a process it would take for one whose process has ended."""
    formats = [json.loads(lines_of(replace(one, step=step)).splitlines()[-1])["format"] for one in (_JOB, _FULL)]
    assert formats == [2, 1]


def test_what_is_added_to_a_handle_is_kept_and_hidden_from_0_1_0(store: Store) -> None:
    record = replace(_FULL, handle={**_FULL.handle, "version": 2, "colour": "red"})
    store.save(record)
    assert store.load_all() == ((record,), ())
    lines = store.base_of(_FULL.id).with_suffix(".json").read_text().splitlines()
    assert json.loads(lines[-1]) == json.loads((Path(__file__).parent / "golden" / "record-format-1.json").read_bytes())


def test_version_0_1_0_reads_what_it_knows_and_skips_the_rest(store: Store) -> None:
    """It takes the last line that is JSON, and throws a record aside that has a field more."""
    store.save(replace(_FULL, unknown={"colour": "red", "limits": {"gpus": 1}}))
    lines = store.base_of(_FULL.id).with_suffix(".json").read_text().splitlines()
    golden = json.loads((Path(__file__).parent / "golden" / "record-format-1.json").read_bytes())
    assert json.loads(lines[-1]) == golden
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[-2])


def test_a_record_that_an_older_version_put_aside_counts_again(store: Store) -> None:
    store.save(_FULL)
    path = store.base_of(_FULL.id).with_suffix(".json")
    path.rename(path.with_suffix(".json.unreadable"))
    assert store.load_all() == ((_FULL,), ())


def test_one_agent_at_a_time_holds_it(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    with opened(first):
        with pytest.raises(ConfigError, match="another agent uses") as caught:
            second.open()
        assert "--instance" in caught.value.hint
    with opened(second):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot use") as caught:
        Store(tmp_path / "file/state").open()
    assert "--state-dir" in caught.value.hint


def test_a_record_that_cannot_be_written_is_said_for_itself(store: Store) -> None:
    store.base_of("taken").with_suffix(".json").mkdir()
    records = [samples.record(id="good"), samples.record(id="taken")]
    good, taken = store.save_claims(records)
    assert good is None
    assert isinstance(taken, StateError)
    assert str(store.base_of("taken")) in taken.message
    with pytest.raises(StateError):
        store.save(records[1])


def test_draining_is_remembered(store: Store) -> None:
    assert not store.draining
    store.set_draining(draining=True)
    store.set_draining(draining=True)
    assert Store(store.folder).draining
    store.set_draining(draining=False)
    store.set_draining(draining=False)
    assert not store.draining


def test_links_that_an_earlier_user_left_lead_nowhere(store: Store, tmp_path: Path) -> None:
    """An admin moves an instance to another user: what its flow runs had planted must not have that user write."""
    kept = tmp_path / "kept"
    kept.write_text("the new user's\n")
    runs = store.folder / "runs"
    store.save(_FULL)
    for name in ("planted.exit", "planted.1.log", "planted.json"):
        (runs / name).symlink_to(kept)
    (store.folder / "drained").symlink_to(tmp_path / "made")
    runs.chmod(0o777)
    with opened(store):
        store.set_draining(draining=True)
        assert store.save_claims([samples.record(id="planted", step=Step.CLAIMING)]) != [None]
        assert store.save_claims([samples.record(id="planted", step=Step.CLAIMING)]) == [None], "the link is gone"
    assert not (runs / "planted.exit").exists()
    assert runs.stat().st_mode & 0o022 == 0
    assert kept.read_text() == "the new user's\n"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["runs", "lock"])
def test_a_link_in_the_place_of_its_own_parts_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" if name == "runs" else tmp_path / "elsewhere/made"
    (tmp_path / "state" / name).symlink_to(target)
    with pytest.raises(StateError, match=f"cannot use {tmp_path}/state"):
        Store(tmp_path / "state").open()
    assert list((tmp_path / "elsewhere").iterdir()) == []
