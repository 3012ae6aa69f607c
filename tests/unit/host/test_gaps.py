"""Lines that journald threw away: as it says, in the timeline of the run, and where it would do so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local_agent.host.log.timeline import Source, lines
from local_agent.host.reading.gaps import DROPPED, Gap, gap_of, gaps_of_flow_runs, limit_is_off, limited
from local_agent.host.reading.runs import Run
from unit.host.fakes import fake_journal, run_id

_SCOPE = f"flow-run-{run_id(1)}.scope"
_AT = {"__REALTIME_TIMESTAMP": "1767225600123456"}


def _dropped(unit: str, count: int = 30, **more: str) -> dict[str, Any]:
    said = {"MESSAGE": f"Suppressed {count} messages from {unit}", "N_DROPPED": str(count)}
    return {**_AT, **said, "MESSAGE_ID": DROPPED, "_TRANSPORT": "driver", **more}


def _flow(number: int, unit: str) -> dict[str, Any]:
    identifier = f"flow-run-{run_id(number)}"
    return {**_AT, "MESSAGE": "line", "SYSLOG_IDENTIFIER": identifier, "PRIORITY": "6", "_SYSTEMD_UNIT": unit}


def test_journald_alone_is_believed() -> None:
    assert gap_of(_dropped("x.service")) == Gap("x.service", 30)
    assert gap_of(_dropped("x.service", _TRANSPORT="journal")) is None
    assert gap_of(_flow(1, "x.service")) is None


def test_a_gap_is_a_line_of_the_run_whose_scope_it_is(tmp_path: Path) -> None:
    (line,) = lines(fake_journal(tmp_path, [_dropped(_SCOPE, 5000)]), [], [])
    assert (line.flow_run_id, line.source, line.priority) == (run_id(1), Source.SYSTEMD, 4)
    assert line.text == "journald threw 5000 lines of this flow run away, which came too fast"


def test_or_of_the_one_that_said_something_in_the_unit_before(tmp_path: Path) -> None:
    unit = "prefect-agent.service"
    entries = [_dropped(unit), _flow(1, "other.service"), _flow(2, unit), _dropped(unit), _dropped("sshd.service")]
    found = list(lines(fake_journal(tmp_path, entries), [], []))
    assert [line.flow_run_id for line in found] == [run_id(1), run_id(2), run_id(2)]
    assert found[-1].text == f"journald threw 30 lines of {unit}, perhaps of this flow run away, which came too fast"


def test_what_concerns_flow_runs_is_counted(tmp_path: Path) -> None:
    units = (_SCOPE, "user@990.service", "user@1.service", "sshd.service")
    journal = fake_journal(tmp_path, [_dropped(unit) for unit in units])
    assert [gap.unit for gap in gaps_of_flow_runs(journal, {990})] == [_SCOPE, "user@990.service"]


def test_units_whose_limit_holds(tmp_path: Path) -> None:
    (tmp_path / f"limit:{_SCOPE}").symlink_to("0")
    (tmp_path / "limit:flow-run-2.scope").symlink_to("30000000")
    runs = [
        Run("1", "", "", "", "running", manager="system", unit=_SCOPE),
        Run("2", "", "", "", "running", manager="system", unit="flow-run-2.scope"),
        Run("3", "", "", "", "running", manager="user", unit="flow-run-3.scope"),
        Run("4", "", "", "", "ended"),
    ]
    assert limited(runs, 1000, f"{tmp_path}/limit:") == ["flow-run-2.scope", "user@1000.service"]


@pytest.mark.parametrize(
    ("files", "off"),
    [
        ({}, False),
        ({"etc/systemd/journald.conf": "[Journal]\nRateLimitBurst=0\n"}, True),
        ({"etc/systemd/journald.conf": "[Journal]\n#RateLimitBurst=0\n"}, False),
        ({"etc/systemd/journald.conf.d/a.conf": "[Journal]\nRateLimitIntervalSec=0s\n"}, True),
        (
            {
                "etc/systemd/journald.conf": "[Journal]\nRateLimitBurst=0\n",
                "usr/lib/systemd/journald.conf.d/z.conf": "[Journal]\nRateLimitBurst=1000\n",
            },
            False,
        ),
        (
            {
                "usr/lib/systemd/journald.conf.d/a.conf": "[Journal]\nRateLimitBurst=1000\n",
                "etc/systemd/journald.conf.d/a.conf": "[Journal]\nRateLimitBurst=0\n",
            },
            True,
        ),
    ],
)
def test_journalds_own_settings(tmp_path: Path, files: dict[str, str], off: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limit_is_off(tmp_path) is off
