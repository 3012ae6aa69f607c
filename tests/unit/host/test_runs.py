"""The flow runs of a host: scopes, records and the agents' words together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from local_agent.errors import ManagerUnreachableError
from local_agent.host.reading.agents import StateFolder, state_folders
from local_agent.host.reading.bus import UnitReader
from local_agent.host.reading.runs import Run, find_runs, with_figures
from local_agent.host.reading.scopes import scan_scopes
from local_agent.launchers.handle import ProcessHandle
from local_agent.linux.procfs import identity_of
from local_agent.model import Cause, End, ProcessIdentity, Record, Step
from local_agent.store.records import Store
from local_agent.units.names import new_id_of_nobody, scope_of
from unit.host.fakes import FakeReader, add_scope, flowruns_slice, make_cgroup, run_id

Managers = dict[str, Callable[[], AbstractContextManager[UnitReader]]]
_FIGURES = {
    "cpu_stat": "usage_usec 1500000\nuser_usec 1\n",
    "memory_current": "1048576\n",
    "memory_peak": "2097152\n",
    "memory_max": "max\n",
    "pids_current": "3\n",
    "io_stat": "8:0 rbytes=10 wbytes=1 rios=1\n8:16 rbytes=5 wbytes=2\n",
    "cgroup_events": "populated 1\nfrozen 0\n",
}


def _system(reader: FakeReader) -> Managers:
    return {"system": lambda: reader}


def _record(number: int, step: Step, process: ProcessIdentity | None = None) -> Record:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    end = End(Cause.EXITED, exit_code=3) if step is Step.ENDED else None
    return Record(
        run_id(number), f"named-{number}", "a flow of .service things", "nonce", step, "boot", then, then,
        handle=ProcessHandle(process).as_json(), end=end,
    )  # fmt: skip


def _folder(tmp_path: Path, *records: Record) -> StateFolder:
    store = Store(tmp_path / "state" / "prod1")
    store.open()
    for record in records:
        store.save(record)
    store.close()
    return StateFolder("prod1", store.folder, 990)


def test_what_the_agent_encloses_for_itself_is_no_flow_run(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    flow_run, unit = add_scope(reader, tmp_path, 7), scope_of(new_id_of_nobody())
    reader.add(unit, "Flow run of nobody")
    make_cgroup(tmp_path / "flowruns.slice" / "flowruns-prod1.slice" / unit)
    assert [run.id for run in find_runs(_system(reader), [], tmp_path).runs] == [flow_run]
    assert [scope.flow_run_id for scope in scan_scopes(tmp_path)] == [flow_run]


def test_a_scope_tells_who_it_is(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    flow_run = add_scope(reader, tmp_path, 7, "prod\\x2d1", "Flow run brave-otter of load of things")
    (run,) = find_runs(_system(reader), [], tmp_path).runs
    assert (run.id, run.name, run.flow_name, run.instance) == (flow_run, "brave-otter", "load of things", "prod-1")
    assert (run.state, run.manager, run.api_state) == ("running", "system", "")
    assert run.since == datetime.fromtimestamp(1007, UTC)


def test_figures_come_from_the_cgroup(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    add_scope(reader, tmp_path, 1, **_FIGURES)
    (run,) = with_figures(find_runs(_system(reader), [], tmp_path).runs)
    figures = run.figures
    assert (figures.cpu_seconds, figures.memory_bytes, figures.memory_peak_bytes) == (1.5, 1 << 20, 2 << 20)
    assert (figures.memory_limit_bytes, figures.tasks) == (None, 3)
    assert (figures.read_bytes, figures.written_bytes) == (15, 3)


def test_without_controllers_there_are_fewer_figures(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    add_scope(reader, tmp_path, 1, cpu_stat="usage_usec 5\n", cgroup_threads="10\n11\n")
    (run,) = with_figures(find_runs(_system(reader), [], tmp_path).runs)
    assert (run.figures.memory_bytes, run.figures.read_bytes, run.figures.tasks) == (None, None, 2)


def test_a_frozen_run_says_so(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    add_scope(reader, tmp_path, 1, cgroup_events="populated 1\nfrozen 1\n")
    (run,) = with_figures(find_runs(_system(reader), [], tmp_path).runs)
    assert run.state == "frozen"


def test_a_failed_scope_has_no_cgroup_any_more(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    reader.add(
        f"flow-run-{run_id(1)}.scope", "Flow run a of b", "failed", Slice="flowruns-prod1.slice", Result="oom-kill"
    )
    (run,) = with_figures(find_runs(_system(reader), [], tmp_path).runs)
    assert (run.state, run.result, run.instance, run.figures.tasks) == ("failed", "oom-kill", "prod1", None)


def test_five_hundred_runs_take_a_few_questions(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    for number in range(500):
        add_scope(reader, tmp_path, number)
    reader.add("flow-run-not-an-id.scope", "somebody else's")
    assert len(find_runs(_system(reader), [], tmp_path).runs) == 500
    assert reader.rounds <= 5, "each waits for PID 1 once"
    assert reader.asked <= 501, "one property for each run: more would be felt"


def test_when_systemd_does_not_answer_the_cgroups_tell(tmp_path: Path) -> None:
    def broken() -> AbstractContextManager[UnitReader]:
        raise ManagerUnreachableError("the bus is gone")

    name = f"flow-run-{run_id(1)}.scope"
    make_cgroup(tmp_path / "flowruns.slice" / "flowruns-prod1.slice" / name)
    overview = find_runs({"system": broken}, [], tmp_path)
    assert [(run.id, run.instance, run.state) for run in overview.runs] == [(run_id(1), "prod1", "running")]
    assert overview.problems == ("the bus is gone; names and times are missing",)


def test_records_know_names_and_runs_without_a_scope(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    add_scope(reader, tmp_path, 1)
    alive, gone = identity_of(1), ProcessIdentity(1, 1, "another boot")
    folder = _folder(
        tmp_path,
        _record(1, Step.RUNNING),
        _record(2, Step.CLAIMING),
        _record(3, Step.ENDED),
        _record(4, Step.RUNNING, alive),
        _record(5, Step.RUNNING, gone),
    )
    runs = {run.id: run for run in find_runs(_system(reader), [folder], tmp_path).runs}
    assert {number: runs[run_id(number)].state for number in range(1, 6)} == {
        1: "running",
        2: "claiming",
        3: "reporting",
        4: "running",
        5: "ended",
    }
    assert runs[run_id(1)].flow_name == "a flow of .service things"
    assert runs[run_id(1)].manager == "system"
    assert runs[run_id(4)].instance == "prod1"


def test_a_record_that_is_none_is_left_alone(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    broken = folder.path / "runs" / "x.json"
    broken.write_text("{")
    assert find_runs({}, [folder], tmp_path).runs == ()
    assert broken.exists(), "to put it aside is the agent's business"


def test_state_folders_are_the_services_and_ones_own(tmp_path: Path) -> None:
    for place in ("services/prod1", "services/prod2", "own/local-agent/default"):
        (tmp_path / place).mkdir(parents=True)
    folders = state_folders({"XDG_STATE_HOME": str(tmp_path / "own")}, tmp_path / "services")
    assert [folder.instance for folder in folders] == ["prod1", "prod2", "default"]
    assert state_folders({"HOME": str(tmp_path / "nobody")}, tmp_path / "nothing") == []
    # as where its user has mounted what not even root may look at
    (tmp_path / "services/odd").symlink_to("x" * 300)
    assert len(state_folders({"XDG_STATE_HOME": str(tmp_path / "own")}, tmp_path / "services")) == 3


def test_runs_are_ordered_by_instance_and_age(tmp_path: Path) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    for number, instance in ((3, "a"), (1, "b"), (2, "a")):
        add_scope(reader, tmp_path, number, instance)
    runs: tuple[Run, ...] = find_runs(_system(reader), [], tmp_path).runs
    assert [run.id for run in runs] == [run_id(2), run_id(3), run_id(1)]
