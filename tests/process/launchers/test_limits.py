"""This machine at a limit while a flow run is launched: real limits, and nothing of it is the flow run's fault."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_agent.errors import ExhaustedError, LaunchError, StateError
from local_agent.model import Cause
from support import samples
from support.launcher_bed import Bed, sh
from support.limits import descriptors_left, no_descriptors
from support.users import as_another_user, environment

_CANNOT_START = "ExhaustedError: cannot start a process: Resource temporarily unavailable"


def _at_process_limit(folder: Path, most: int, runtime_max_seconds: int, *argv: str) -> str:
    program = [
        sys.executable,
        "-m",
        "support.at_process_limit",
        str(folder),
        str(most),
        str(runtime_max_seconds),
        *argv,
    ]
    done = subprocess.run([*as_another_user(), *program], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("most", "runtime_max_seconds", "outcome"),
    [
        # of this process there is a thread more while it starts another, and it may take a moment to end
        (1, 0, _CANNOT_START),
        (2, 0, _CANNOT_START),
        (4, 0, "exited 0"),
        (2, 60, _CANNOT_START),
        (3, 60, "never-started None"),  # timeout cannot
        (5, 60, "exited 0"),
    ],
)
def test_at_the_process_limit(tmp_path: Path, most: int, runtime_max_seconds: int, outcome: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    assert _at_process_limit(tmp_path, most, runtime_max_seconds, "/bin/true") == outcome


async def test_at_the_descriptor_limit(bed: Bed) -> None:
    """With each number of descriptors: what is started is started whole, and what is not leaves nothing."""
    failures = []
    for count in range(30):
        try:
            with descriptors_left(count):
                process = await bed.launch(*sh("exit 5"))
        except (ExhaustedError, StateError) as error:
            failures.append(str(error))
            continue
        process.open_gate()
        assert (await bed.conclude(process)).exit_code == 5
    assert 3 <= len(failures) <= 10
    assert all("Too many open files" in failure for failure in failures)


async def test_no_descriptor_is_no_sign_that_a_run_has_ended(bed: Bed) -> None:
    process = await bed.launch(*sh(f"echo up >{bed.folder}/up; exec sleep 3600"))
    process.open_gate()
    bed.wait_for("up")
    record, later = bed.adopted(process), bed.new_launcher()
    for count in range(2):
        with descriptors_left(count), pytest.raises(ExhaustedError):
            await later.adopt(record)
    (await bed.adopt(record)).detach()
    with no_descriptors(), pytest.raises(ExhaustedError):
        await process.stop(1)
    await process.stop(1)
    assert (await bed.conclude(process)).cause is Cause.CANCELLED


async def test_a_program_that_is_busy_now_may_be_executed_later(bed: Bed) -> None:
    program = bed.folder / "program"
    shutil.copy("/bin/true", program)
    with program.open("r+b"):  # execve: ETXTBSY
        assert (await bed.run(str(program))).cause is Cause.NEVER_STARTED
    assert (await bed.run(str(program))).is_clean


async def test_a_folder_that_goes_before_the_gate_opens_fails_the_run_with_a_sentence(bed: Bed) -> None:
    folder = bed.folder / "there"
    folder.mkdir()
    process = await bed.launch(*sh("true"), folder=folder)
    folder.rmdir()
    process.open_gate()
    end = await bed.conclude(process)
    assert (end.cause, end.exit_code) == (Cause.EXITED, 127)
    assert end.last_lines == (f"local-agent: cannot enter {folder}: No such file or directory",)


@pytest.mark.parametrize("name", ["missing", "file", "file/below", "a\0b", "\ud800"])
async def test_a_folder_that_does_not_exist(bed: Bed, name: str) -> None:
    (bed.folder / "file").touch()
    wanted = bed.folder / name
    with pytest.raises(LaunchError) as caught:
        await bed.launch("true", folder=wanted)
    assert caught.value.message == f"Flow run {samples.RUN_ID} has a nonexistent `working_dir` configured: {wanted}"


@pytest.mark.parametrize("name", ["loop", "n" * 300])
async def test_a_folder_that_cannot_be_had(bed: Bed, name: str) -> None:
    (bed.folder / "loop").symlink_to("loop")
    wanted = bed.folder / name
    with pytest.raises(LaunchError, match=f"Flow run {samples.RUN_ID} cannot have the `working_dir` {wanted}: "):
        await bed.launch("true", folder=wanted)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def _fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def test_a_disk_that_is_full_at_the_gate(tiny_disk: Path) -> None:
    """Nothing tells that the gate opened but the record and the agent that opened it; that is enough."""
    bed = Bed(tiny_disk)
    process = await bed.launch(*sh("exit 5"))
    _fill(tiny_disk)
    process.open_gate()
    end = await bed.conclude(process)
    assert (end.cause, end.exit_code) == (Cause.EXITED, 5)


async def test_a_disk_that_is_full_at_the_gate_and_another_life_of_the_agent(tiny_disk: Path) -> None:
    bed = Bed(tiny_disk)
    process = await bed.launch(*sh("exit 5"))
    _fill(tiny_disk)
    process.open_gate()
    await process.ended()
    assert (await bed.end_by_adopting(bed.adopted(process))).cause is Cause.VANISHED
    await process.release()
