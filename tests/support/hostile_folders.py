"""State folders as a user may leave them for root's commands to find."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_agent.launchers.handle import ProcessHandle
from local_agent.model import ProcessIdentity, Record, Step
from local_agent.store.records import Store

_ODD: tuple[object, ...] = (
    *(
        None,
        True,
        -1,
        0,
        5,
        2**70,
        1e308,
        "",
        "x",
        "\x1b]0;hijacked\x07",
        "\ud800",
        "a\nb",
        "9999-99-99",
        "0001-01-01T00:00:00",
    ),
    *("2026-01-01T00:00:00", [], [[]], {}, {"a": {}}, ["x"] * 50, "x" * 5000),
)
_GIGABYTE = 1 << 30


def good_record(number: int = 0) -> Record:
    """Return a record of a run that runs."""
    return Record(
        id=f"{number:08x}-0000-4000-8000-000000000000",
        name=f"good-{number}",
        flow_name="flow",
        nonce="n",
        step=Step.RUNNING,
        boot_id="b",
        due=datetime(2026, 1, 1, tzinfo=UTC),
        claimed_at=datetime(2026, 1, 1, tzinfo=UTC),
        backend="prefect1",
        ticket={"version": 3},
        launcher="process",
        handle=ProcessHandle(ProcessIdentity(1, 1, "b")).as_json(),
    )


def make_folder(folder: Path, chance: random.Random, *, wild: int = 4) -> None:
    """Make a state folder with one good record and so many wild files beside it."""
    store = Store(folder)
    with contextlib.suppress(FileExistsError):
        (folder / "runs").mkdir(parents=True)
    store.save(good_record())
    for number in range(1, wild + 1):
        record = good_record(number)
        path = folder / "runs" / f"{record.id}.json"
        chance.choice(_MAKERS)(path, record, chance)


def _as_file(path: Path, record: Record, chance: random.Random) -> None:
    """Write a record in which one to five fields, at any depth, are something else."""
    Store(path.parents[1]).save(replace(record))
    lines = [json.loads(line.removeprefix("+")) for line in path.read_text().split("\n") if line]
    obj = {name: value for line in lines for name, value in line.items()}
    for _ in range(chance.randint(1, 5)):
        place: Any = obj
        while (
            inner := [value for value in place.values() if isinstance(value, dict) and value]
        ) and chance.random() < 0.5:
            place = chance.choice(inner)
        if place:
            place[chance.choice([*place, "surprise"])] = copy.deepcopy(chance.choice(_ODD))
    path.write_text(json.dumps(obj))


def _link_to_zero(path: Path, _record: Record, _chance: random.Random) -> None:
    path.symlink_to("/dev/zero")


def _pipe(path: Path, _record: Record, _chance: random.Random) -> None:
    os.mkfifo(path)


def _gigabyte(path: Path, _record: Record, _chance: random.Random) -> None:
    with path.open("wb") as file:
        file.truncate(_GIGABYTE)


def _deep(path: Path, _record: Record, chance: random.Random) -> None:
    path.write_text(chance.choice("[{").replace("{", '{"a":') * chance.choice([500, 5_000, 40_000]))


def _bytes(path: Path, _record: Record, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.randint(0, 3000)))


def _folder(path: Path, _record: Record, _chance: random.Random) -> None:
    path.mkdir()


def _socket(path: Path, _record: Record, _chance: random.Random) -> None:
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    os.close(descriptor)


def _loop(path: Path, _record: Record, _chance: random.Random) -> None:
    path.symlink_to(path)


def _huge_number(path: Path, record: Record, _chance: random.Random) -> None:
    path.write_text(json.dumps({"format": 1, "id": record.id}) + "\n" + "9" * 6000)


_MAKERS: tuple[Callable[[Path, Record, random.Random], None], ...] = (
    *(_as_file,) * 6,
    *(_link_to_zero, _pipe, _gigabyte, _deep, _bytes, _folder, _socket, _loop, _huge_number),
)


ANSWERS: tuple[bytes | None, ...] = (
    None,  # a byte a second, for ever
    b"",
    b"\n",
    b"5\n",
    b"[" * 20_000 + b"\n",
    b'{"ok": true, "message": 5}\n',
    b'{"ok": true, "message": "{}"}\n',
    b'{"ok": false, "message": {"a": 1}, "hint": []}\n',
    b"\xff\xfe\n",
    b"x" * (6 << 20),
)


@contextlib.contextmanager
def answering(folder: Path, answer: bytes | None) -> Iterator[None]:
    """Have something that is no agent answer on a folder's control socket for the length of the context."""
    (folder / "control").unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{descriptor}/control")
    listener.listen(16)
    over = threading.Event()
    thread = threading.Thread(target=_answer_all, args=(listener, answer, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        os.close(descriptor)


def _answer_all(listener: socket.socket, answer: bytes | None, over: threading.Event) -> None:
    while not over.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.sendall(b"x" if answer is None else answer)
            until = time.monotonic() + 30
            while answer is None and not over.wait(0.3) and time.monotonic() < until:
                connection.sendall(b"x")
