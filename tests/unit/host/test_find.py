"""Which flow run is meant, and what the journal remembers of those that ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_agent import events
from local_agent.errors import NotFoundError
from local_agent.host.find import find_run
from local_agent.host.reading.journal import text_of
from local_agent.host.reading.past import Past
from local_agent.host.reading.runs import Run
from local_agent.linux.cgroup import Figures
from unit.host.fakes import asked_of, fake_journal, run_id


def _run(number: int, name: str = "brave-otter") -> Run:
    return Run(run_id(number), name, "etl", "prod1", "running")


def _said(event: events.Event, number: int, text: str, name: str = "brave-otter", **fields: str) -> dict[str, object]:
    return {
        "__REALTIME_TIMESTAMP": "1767225600000000",
        "MESSAGE_ID": event.message_id,
        "MESSAGE": text,
        "FLOW_RUN_ID": run_id(number),
        "FLOW_RUN_NAME": name,
        "FLOW_NAME": "etl",
        "LOCAL_AGENT": "prod1",
        "_UID": "990",
        "_SYSTEMD_UNIT": "local-agent@prod1.service",
        **{events.field_of(field): value for field, value in fields.items()},
    }


def test_a_run_is_meant_by_id_beginning_or_name() -> None:
    runs = [_run(0x12345678, "one"), _run(0x12999999, "two")]
    for word in (run_id(0x12345678), "123", "1234567", "one"):
        assert find_run(word, runs).name == "one"


def test_several_are_named() -> None:
    with pytest.raises(NotFoundError, match=r"may mean 12345678.*one.*12999999.*two") as caught:
        find_run("12", [_run(0x12345678, "one"), _run(0x12999999, "two")])
    assert caught.value.exit_code == 66


def test_a_name_does_not_steer_the_terminal_of_who_reads_it() -> None:
    runs = [_run(0x12345678, "\x1b[31mred\nline"), _run(0x12999999, "two")]
    with pytest.raises(NotFoundError) as caught:
        find_run("12", runs)
    assert caught.value.message.isprintable()
    assert runs[0].label == "\\x1b[31mred\\x0aline (12345678)"


def test_a_name_wins_over_the_beginning_of_an_id() -> None:
    assert find_run("abc", [_run(0xABC00000, "x"), _run(1, "abc")]).id == run_id(1)


def test_a_name_is_no_other_runs_id() -> None:
    """Whoever may name a flow run would otherwise have commands meet it in another's place, or meet nothing."""
    meant = _run(0xABC00000, "x")
    for name in (meant.id[:8], meant.id):
        decoy = _run(1, name)
        assert find_run(meant.id, [decoy, meant]).id == meant.id
        assert find_run(meant.id.upper(), [decoy, meant], lambda _: []).id == meant.id
        assert find_run(meant.id, [decoy], lambda _: [meant]).id == meant.id, "it has ended"
    named = _run(1, meant.id[:8])
    earlier = [meant, _run(2, named.name)]
    for runs in ([named, meant], [named]):
        with pytest.raises(NotFoundError, match=r"may mean .*abc00000") as caught:
            find_run(named.name, runs, lambda _: earlier)
        assert run_id(2) not in caught.value.message, "an earlier one of that name"
    assert find_run("20260131", [_run(1, "20260131")], lambda _: [_run(2, "20260131")]).id == run_id(1)


def test_none_is_said() -> None:
    for word in ("", "f00"):
        with pytest.raises(NotFoundError, match="no flow run"):
            find_run(word, [_run(1)])


def test_the_past_is_asked_last() -> None:
    asked: list[str] = []

    def past(word: str) -> list[Run]:
        asked.append(word)
        return [_run(2)]

    assert find_run("00000001", [_run(1)], past).id == run_id(1)
    assert asked == []
    assert find_run("00000002", [_run(1)], past).id == run_id(2)


def test_how_runs_ended(tmp_path: Path) -> None:
    entries = [
        _said(events.ENDED, 1, "in any words", how="Exited with code 0", cause="exited", exit_code="0"),
        _said(events.CRASHED, 2, "in any words", how="Ended by signal 9", told="reported", outcome="reported"),
        _said(events.LAUNCH_FAILED, 3, "in any words", reason="no such folder"),
        _said(events.ENDED, 4, "in any words", how="Exited with code 0"),
        _said(events.ENDED, 5, "in any words", cpu_seconds="1.5", memory_peak_bytes="4096", read_bytes="7"),
    ]
    past = Past(fake_journal(tmp_path, entries), {990}, packaged={"prod1"})
    runs = past.ended(10, instance="prod1", known={(run_id(4), "prod1")})
    assert [(run.how, run.cause, run.exit_code, run.outcome) for run in runs] == [
        ("Exited with code 0", "exited", 0, ""),
        ("Ended by signal 9; reported", "", None, "reported"),
        ("no such folder", "", None, ""),
        ("in any words", "", None, ""),
    ]
    assert runs[3].figures == Figures(cpu_seconds=1.5, memory_peak_bytes=4096, read_bytes=7)
    assert [run.state for run in runs] == ["ended"] * 4
    certain, others = asked_of(tmp_path)
    assert certain.count("_SYSTEMD_UNIT=local-agent@prod1.service") == 3
    assert others.count("_UID=0 _UID=990") == 3, "any other user could have written such an entry"
    assert others.count("LOCAL_AGENT=prod1") == 3
    assert all("--lines=10" in asked for asked in (certain, others))


def test_only_an_agent_tells_of_its_flow_runs(tmp_path: Path) -> None:
    """A flow run has its agent's user, and writes what it likes under any name, but not out of any unit."""
    real = _said(events.ENDED, 1, "in any words", how="Exited with code 0")
    lies = [
        {**real, events.field_of("how"): "a lie", **fields}
        for fields in (
            {"LOCAL_AGENT": "ghost", "_SYSTEMD_UNIT": "", "_UID": "991"},
            {"LOCAL_AGENT": "other", "_SYSTEMD_UNIT": "", "_UID": "991"},
            {"LOCAL_AGENT": "other", "_SYSTEMD_UNIT": "local-agent@prod1.service"},
            {"_SYSTEMD_UNIT": f"flow-run-{run_id(7)}.scope"},
            {"_SYSTEMD_UNIT": "cron.service", "_UID": "991"},
        )
    ]
    own = {**real, "FLOW_RUN_ID": run_id(2), "LOCAL_AGENT": "other", "_SYSTEMD_UNIT": "", "_UID": "991"}
    owners = {"prod1": 990, "other": 991}
    journal = fake_journal(tmp_path, [*lies, real, *lies, own])
    past = Past(journal, {990, 991}, owners=owners, packaged=owners)
    assert [(run.id, run.instance) for run in past.ended(10)] == [(run_id(1), "prod1"), (run_id(2), "other")]
    assert past.ended(10)[0].how == "Exited with code 0"
    found = next(run for run in past.search(run_id(1)) if run.id == run_id(1))
    assert (found.instance, found.how) == ("prod1", "Exited with code 0")


def test_nobody_pushes_out_what_is_certain(tmp_path: Path) -> None:
    real = _said(events.ENDED, 1, "Flow run a (x) of etl ended: Exited with code 0")
    lost = {"_SYSTEMD_UNIT": "", "LOCAL_AGENT": "other", "_UID": "991", "__REALTIME_TIMESTAMP": "1767225700000000"}
    flood = [{**_said(events.ENDED, number, "Flow run b (y) of z ended: x"), **lost} for number in range(2, 60)]
    past = Past(
        fake_journal(tmp_path, [real, *flood]), {990, 991}, owners={"prod1": 990, "other": 991}, packaged={"prod1"}
    )
    assert len(past.ended(10)) == 10
    assert run_id(1) in {run.id for run in past.ended(10)}


def test_ids_that_anybody_wrote_hide_none(tmp_path: Path) -> None:
    entry = _said(events.LAUNCHED, 0x12AB0000, "Flow run brave-otter started")
    values = [run_id(0x12AB0001 + number) for number in range(40)] + ["12ab" * 9]
    past = Past(fake_journal(tmp_path, [entry], values), {990}, packaged={"prod1"})
    assert [run.id for run in past.search("12ab")] == [run_id(0x12AB0000)]


def test_an_end_that_the_version_before_told_is_shown_as_it_was_told(tmp_path: Path) -> None:
    """It has its sentence, and no field."""
    told = "Flow run a (x) of etl ended: Exited with code 0; used 1.0 s of CPU"
    past = Past(fake_journal(tmp_path, [_said(events.ENDED, 1, told)]), {990}, packaged={"prod1"})
    (run,) = past.ended(10)
    assert (run.how, run.cause, run.exit_code, run.outcome) == (told, "", None, "")
    assert run.figures == Figures()


@pytest.mark.parametrize("wrong", ["", "-1", "x", "1e9", "9" * 400, "\u0663", "nan", "1.5.5", "inf", "0x10", " 1"])
def test_a_field_that_is_no_number_is_none(tmp_path: Path, wrong: str) -> None:
    counted = dict.fromkeys(("exit_code", "cpu_seconds", "memory_peak_bytes", "read_bytes"), wrong)
    past = Past(fake_journal(tmp_path, [_said(events.ENDED, 1, "x", **counted)]), {990}, packaged={"prod1"})
    (run,) = past.ended(10)
    assert (run.exit_code, run.figures) == (None, Figures())


def test_the_past_is_searched_by_name_and_id(tmp_path: Path) -> None:
    entry = _said(events.LAUNCHED, 0x12AB0000, "Flow run brave-otter started")
    journal = fake_journal(tmp_path, [entry, entry], [run_id(0x12AB0000), run_id(0x13000000)])
    past = Past(journal, {990}, packaged={"prod1"})
    (run,) = past.search("12ab")
    assert (run.id, run.name, run.instance) == (run_id(0x12AB0000), "brave-otter", "prod1")
    assert f"FLOW_RUN_ID={run_id(0x12AB0000)}" in asked_of(tmp_path)[1]
    assert "13000000" not in asked_of(tmp_path)[1]


def test_fields_are_texts_whatever_journalctl_makes_of_them() -> None:
    entry = {"BYTES": [27, 91, 255], "TWICE": ["a", "b"], "TEXT": "t", "BIG": None}
    assert [text_of(entry, name) for name in ("BYTES", "TWICE", "TEXT", "BIG", "NONE")] == [
        "\x1b[\ufffd",
        "a",
        "t",
        "",
        "",
    ]
