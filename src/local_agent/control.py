"""The agent's control socket in its state folder: `poke`, `reload`, `drain`, `status`, `cancel` and others ask here.

One JSON line asks, one JSON line answers: {"do": "reload"} -> {"ok": true, "message": "..."}. What is asked about one
flow run names it: {"do": "cancel", "flow_run": "<id>"}. The socket belongs to the agent's user and nobody else may
write to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from local_agent.errors import LocalAgentError, StateError, UnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

Commands = Mapping[str, Callable[[], Awaitable[str]]]
RunCommands = Mapping[str, Callable[[str], Awaitable[str]]]

_NAME = "control"
_MOST_BYTES = 4096
_MOST_REPLY_BYTES = 4 << 20  # of a thousand live flow runs each has some two hundred
_CHUNK_BYTES = 65536


@contextlib.asynccontextmanager
async def served(folder: Path, commands: Commands, run_commands: RunCommands | None = None) -> AsyncIterator[None]:
    """Answer on the folder's socket for the length of the context. A command returns what to say, or raises.

    `run_commands` are about one flow run, whose id they are given.
    """
    import asyncio  # here, because those who only ask would wait 20 ms for it

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.LimitOverrunError, ValueError):
            reply = await _carry_out(commands, run_commands or {}, await reader.readline())
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    path = folder / _NAME
    with _short_path(folder) as short:
        listener = socket.socket(socket.AF_UNIX)
        try:
            path.unlink(missing_ok=True)
            listener.bind(f"{short}/{_NAME}")
            path.chmod(0o600)
        except OSError as error:
            listener.close()
            raise StateError(f"cannot make the control socket {path}: {error.strerror}") from error
    server = await asyncio.start_unix_server(answer, sock=listener, limit=_MOST_BYTES)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask(folder: Path, command: str, flow_run_id: str | None = None, timeout_seconds: float = 30.0) -> str:
    """Ask the agent that uses `folder` to do something, perhaps about one flow run; return what it says.

    Raise UnavailableError where no agent answers, LocalAgentError with the agent's own words where it cannot. Whoever
    answers may be anybody who can write to the folder: the whole conversation ends within `timeout_seconds`.
    """
    until = time.monotonic() + timeout_seconds
    try:
        with _short_path(folder) as short, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(f"{short}/{_NAME}")
            message = {"do": command} if flow_run_id is None else {"do": command, "flow_run": flow_run_id}
            connection.sendall(json.dumps(message).encode() + b"\n")
            reply = _read_reply(connection, until)
    except PermissionError as error:
        raise UnavailableError(
            f"may not speak to the agent at {folder}: {error.strerror}", hint="run this as root or as the agent's user"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"no agent answers at {folder}: {error.strerror or error}", hint="is it running? name it with --instance"
        ) from error
    if not reply.get("ok"):
        raise LocalAgentError(str(reply.get("message", "the agent gave no reason")), hint=str(reply.get("hint", "")))
    return str(reply.get("message", ""))


async def _carry_out(commands: Commands, run_commands: RunCommands, line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
        wanted = message["do"]
        about = message["flow_run"] if wanted in run_commands else None
        command = commands[wanted] if about is None else None
    except (ValueError, KeyError, TypeError):
        known = [*commands, *(f"{name} (with a flow_run)" for name in run_commands)]
        return {"ok": False, "message": f"the agent knows {', '.join(known)}"}
    try:
        return {"ok": True, "message": await (command() if command else run_commands[wanted](str(about)))}
    except LocalAgentError as error:
        problems = [*getattr(error, "problems", ())]
        return {"ok": False, "message": "\n  ".join([error.message, *problems]), "hint": error.hint}


def _read_reply(connection: socket.socket, until: float) -> dict[str, Any]:
    """Return the one line that answers. Raise OSError where there is none by `until`, or it is none of an agent's."""
    data = bytearray()
    while not data.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or len(data) > _MOST_REPLY_BYTES:
            raise OSError("its answer does not end")
        connection.settimeout(left)
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            raise OSError("it hung up without an answer")
        data += chunk
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OSError(f"its answer is not JSON: {error}") from error
    if not isinstance(reply, dict):
        raise OSError("its answer is no JSON object")
    return reply


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Give a short path to a folder: a socket's own may have 107 bytes and no more (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
