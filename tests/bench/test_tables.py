"""What becomes of samples: rows that reach or do not, tables, and results that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report, results, table
from bench.figures import FIGURES
from bench.model import SCOPE, Reach, Row, ours_at_most, ratio_at_least, ratio_at_most
from bench.results import Result

_ROW = Row("exec to first poll", "s", [0.4, 0.3, 0.5], [0.2, 0.1, 0.9], ratio_at_most(0.65))


@pytest.mark.parametrize(
    ("reach", "is_reached"),
    [
        (ratio_at_most(0.5), True),
        (ratio_at_most(0.49), False),
        (ratio_at_least(0.5), True),
        (ratio_at_least(0.51), False),
        (ours_at_most(0.2), True),
        (ours_at_most(0.19), False),
        (None, None),
    ],
)
def test_medians_decide(reach: Reach | None, is_reached: bool | None) -> None:
    assert Row("t", "s", _ROW.theirs, _ROW.ours, reach).is_reached is is_reached


@pytest.mark.parametrize("theirs", [[], [0.0, 0.0]])
def test_there_is_no_ratio_to_nothing(theirs: list[float]) -> None:
    row = Row("t", "s", theirs, [1.0], ratio_at_most(0.5))
    assert row.ratio is None
    assert row.is_reached is False


def test_a_table_has_the_median_and_both_ends() -> None:
    assert table.as_markdown([_ROW]).splitlines()[2] == (
        "| exec to first poll, s | 0.40 (0.30 - 0.50) | 0.20 (0.10 - 0.90) | 0.50 | ratio <= 0.65 | yes |"
    )


def test_columns_are_aligned() -> None:
    head, row = table.as_text([_ROW]).splitlines()
    assert head.index("ours") == row.index("0.20 (")


def test_a_result_is_kept(tmp_path: Path) -> None:
    result = Result("start", [_ROW, Row("other", "", [], [1.0])], 3, "here")
    results.save(tmp_path / "new", result)
    assert results.load(tmp_path / "new", "start") == result
    assert results.load(tmp_path / "new", "idle") is None


def test_each_figure_has_a_name_and_says_what_it_measures() -> None:
    names = [figure.name for figure in FIGURES]
    assert len(names) == len(set(names))
    assert all(figure.explanation for figure in FIGURES)
    assert all((figure.launcher == SCOPE) == figure.name.endswith("-scope") for figure in FIGURES)


def test_the_report_leaves_alone_what_people_wrote() -> None:
    text = report.FILE.read_text()
    once = report.renewed(text, [Result("start", [_ROW], 3, "here")], FIGURES)
    twice = report.renewed(once, [Result("start", [_ROW], 5, "there")], FIGURES)
    assert "| exec to first poll, s | 0.40" in twice
    assert "Measured on there, 5 rounds." in twice
    assert twice.replace("there, 5 rounds", "here, 3 rounds") == once
    assert twice.partition("<!--")[0] == text.partition("<!--")[0]
