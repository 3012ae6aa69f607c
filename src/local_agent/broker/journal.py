"""The last lines of a flow run, which its agent may not read from the journal itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from local_agent.broker.protocol import MAX_ANSWER_BYTES, Code, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYNC_SECONDS = 20.0
_SECONDS = 8.0
_MAX_BYTES = MAX_ANSWER_BYTES // 8  # a byte takes up to six in JSON


async def last_lines(identifier: str, uid: int, count: int) -> list[str]:
    """Return the last lines that a user's processes wrote under an identifier, oldest first. Raise RefusedError."""
    with contextlib.suppress(RefusedError):  # after a flood the last lines still wait to be read by journald
        await _printed(("--sync",), _SYNC_SECONDS)
    words = ("--quiet", "--no-pager", "--output=cat", f"--lines={count}")
    output = await _printed((*words, f"SYSLOG_IDENTIFIER={identifier}", f"_UID={uid}"), _SECONDS)
    return output.decode(errors="replace").splitlines()[-count:]


async def _printed(words: Sequence[str], seconds: float) -> bytes:
    """Return the end of what journalctl prints. Raise RefusedError where it cannot run, or does not end in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("journalctl", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise RefusedError(Code.NO_ANSWER, f"journalctl cannot be started: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            output = await _end_of(process)
            await process.wait()
    except TimeoutError as error:
        raise RefusedError(Code.NO_ANSWER, f"journalctl did not answer within {seconds:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output


async def _end_of(process: asyncio.subprocess.Process) -> bytes:
    """Return the end of what it prints: a single entry may be larger than our memory should be."""
    assert process.stdout is not None
    output = b""
    while chunk := await process.stdout.read(65536):
        output = (output + chunk)[-_MAX_BYTES:]
    return output
