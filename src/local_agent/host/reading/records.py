"""What an instance remembers of its flow runs, for those who only look on.

The folder belongs to the instance's user, and so to its flow runs: what lies there is believed in nothing. It costs a
bounded time and a bounded memory whatever it is, and one bad file hides no good one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.launchers.registry import is_sound
from local_agent.linux.untrusted import open_folder, read_regular
from local_agent.store.record_format import record_in
from local_agent.units.names import is_flow_run_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_agent.host.reading.agents import StateFolder
    from local_agent.model import Record

_MAX_BYTES = 256 * 1024
_MAX_RECORDS = 10_000
_LOOK_SECONDS = 0.5
_MAX_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Remembered:
    """The records of an instance, and a sentence for each thing that is none or could not be looked at."""

    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()


def records_of(folder: StateFolder) -> Remembered:
    """Return what an instance remembers of its flow runs, as far as this user may read it."""
    runs = folder.path / "runs"
    try:
        inside = open_folder(runs)
    except (FileNotFoundError, PermissionError):
        return Remembered(())  # it has none yet, or they are not for this user
    except OSError as error:
        return Remembered((), (f"{runs} cannot be looked at: {error.strerror}",))
    try:
        if folder.is_anybodys and os.fstat(inside).st_uid != folder.uid:
            return Remembered((), (f"{runs} is not of the agent's user: it is not looked at",))
        return _read_all(inside, folder)
    except OSError as error:
        return Remembered((), (f"{runs} cannot be looked at: {error.strerror}",))
    finally:
        os.close(inside)


def _read_all(inside: int, folder: StateFolder) -> Remembered:
    records, problems = [], []
    until = time.monotonic() + _LOOK_SECONDS
    for number, name in enumerate(_names(inside)):
        if number >= _MAX_RECORDS or time.monotonic() > until:
            problems.append(f"{folder.path}/runs has more records than can be looked at: some are left out")
            break
        try:
            records.append(_record(name, inside))
        except FileNotFoundError:
            continue  # it is over
        except (OSError, ValueError) as error:
            problems.append(f"{folder.path}/runs/{name} is not a record: {_words(error)}")
    records.sort(key=lambda record: record.id)
    return Remembered(tuple(records), _bounded(problems, folder))


def _names(inside: int) -> Iterator[str]:
    with os.scandir(inside) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                yield entry.name


def _record(name: str, inside: int) -> Record:
    """Return the record in a file. Raise OSError, or ValueError where it is none."""
    record = record_in(read_regular(name, _MAX_BYTES, inside=inside))
    sound = (
        is_flow_run_id(name.removesuffix(".json"))
        and record.id == name.removesuffix(".json")
        and isinstance(record.name, str)
        and isinstance(record.flow_name, str)
        and isinstance(record.launcher, str)
        and record.claimed_at.tzinfo is not None
        and is_sound(record)
    )
    if not sound:
        raise ValueError("its fields are not of the kinds that they should be")
    return record


def _words(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _bounded(problems: list[str], folder: StateFolder) -> tuple[str, ...]:
    if len(problems) <= _MAX_PROBLEMS:
        return tuple(problems)
    more = len(problems) - _MAX_PROBLEMS
    return (*problems[:_MAX_PROBLEMS], f"{folder.path}/runs has {more} more files that are not records")
