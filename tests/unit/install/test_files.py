"""Files are written whole, with their mode, over nothing by accident."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_agent.install.files import File, WriteError, write_files

KEY = File(Path("/etc/agent/key"), "secret\n", 0o600, is_secret=True)
UNIT = File(Path("/etc/unit"), "[Unit]\n")


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        written = write_files([KEY, UNIT], tmp_path, force=False)
    finally:
        os.umask(before)
    assert written == [tmp_path / "etc/agent/key", tmp_path / "etc/unit"]
    assert [path.stat().st_mode & 0o777 for path in written] == [0o600, 0o644]
    assert [path.name for path in (tmp_path / "etc/agent").iterdir()] == ["key"]


def test_nothing_is_written_if_one_is_there(tmp_path: Path) -> None:
    write_files([UNIT], tmp_path, force=False)
    with pytest.raises(WriteError, match="etc/unit is there already") as caught:
        write_files([KEY, UNIT], tmp_path, force=False)
    assert "--force" in caught.value.hint
    assert not (tmp_path / "etc/agent").exists()


def test_force_replaces_and_does_not_follow_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/unit").symlink_to(victim)
    with pytest.raises(WriteError):
        write_files([UNIT], tmp_path, force=False)
    write_files([UNIT], tmp_path, force=True)
    assert (tmp_path / "etc/unit").read_text() == "[Unit]\n"
    assert victim.read_text() == "untouched"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(WriteError, match="etc/unit cannot be written"):
        write_files([UNIT], tmp_path, force=False)
