"""The links by which journald's limit is lifted: made before a scope starts, kept for a while, removed then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from local_agent.broker.line_limits import LineLimits

_UNIT = "flow-run-c0ffee00-0000-4000-8000-000000000000.scope"
_LONG_AGO = 1000.0


def _link(folder: Path, unit: str = _UNIT) -> Path:
    return folder / f"log-rate-limit-interval:{unit}"


def _age(link: Path) -> None:
    old = time.time() - _LONG_AGO
    os.utime(link, (old, old), follow_symlinks=False)


def test_a_scope_that_starts_has_no_limit(tmp_path: Path) -> None:
    with LineLimits(tmp_path).lifted(_UNIT):
        assert _link(tmp_path).readlink() == Path("0")
    assert _link(tmp_path).readlink() == Path("0")


def test_one_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), LineLimits(tmp_path).lifted(_UNIT):
        raise ValueError("no")
    assert not os.path.lexists(_link(tmp_path))


def test_one_whose_name_is_taken_takes_nothing_from_it(tmp_path: Path) -> None:
    (tmp_path / f"invocation:{_UNIT}").symlink_to("1234")
    with pytest.raises(ValueError, match="no"), LineLimits(tmp_path).lifted(_UNIT):
        raise ValueError("no")
    assert os.path.lexists(_link(tmp_path))


def test_links_of_scopes_that_are_gone_are_removed_after_a_while(tmp_path: Path) -> None:
    names = {name: f"flow-run-{name}.scope" for name in ("loaded", "ended", "gone", "fresh")}
    for unit in names.values():
        _link(tmp_path, unit).symlink_to("0")
        _age(_link(tmp_path, unit))
    (tmp_path / "invocation:flow-run-loaded.scope").symlink_to("1234")
    strangers = [_link(tmp_path, "nginx.service"), tmp_path / "log-level-max:flow-run-gone.scope"]
    for stranger in strangers:
        stranger.symlink_to("0")
        _age(stranger)
    limits = LineLimits(tmp_path)
    limits.note_end(names["ended"])
    os.utime(_link(tmp_path, names["fresh"]), follow_symlinks=False)
    with limits.lifted(_UNIT):
        left = {unit for unit in names.values() if os.path.lexists(_link(tmp_path, unit))}
    assert left == {names["loaded"], names["ended"], names["fresh"]}
    assert all(os.path.lexists(stranger) for stranger in strangers)


def test_a_folder_that_cannot_be_written_stops_no_scope(tmp_path: Path) -> None:
    limits = LineLimits(tmp_path / "missing")
    with limits.lifted(_UNIT):
        limits.note_end(_UNIT)
