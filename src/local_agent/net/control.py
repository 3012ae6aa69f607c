"""The agent's control socket in its state folder: `poke`, `reload`, `drain`, `status`, `cancel` and others ask here.

One JSON line asks, one JSON line answers: {"do": "reload"} -> {"ok": true, "message": "..."}. What is asked about one
flow run names it: {"do": "cancel", "flow_run": "<id>"}. The socket belongs to the agent's user and nobody else may
write to it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import struct
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from local_agent.errors import AgentRefusedError, LocalAgentError, StateError, UnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

Commands = Mapping[str, Callable[[], Awaitable[str]]]
RunCommands = Mapping[str, Callable[[str], Awaitable[str]]]

_NAME = "control"
_MAX_BYTES = 4096
_MAX_REPLY_BYTES = 4 << 20  # of a thousand live flow runs each has some two hundred
_CHUNK_BYTES = 65536
_MAX_CLIENTS = 32
_CREDENTIALS = struct.Struct("iII")


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    commands: Commands,
    run_commands: RunCommands | None = None,
    *,
    on_fault: Callable[[str], None],
    silence_seconds: float = 10.0,
) -> AsyncIterator[None]:
    """Answer on the folder's socket for the length of the context. A command returns what to say, or raises.

    `run_commands` are about one flow run, whose id they are given. `on_fault` is given the traceback of a fault of our
    own. Who says or takes nothing for `silence_seconds` is hung up on, and so is who comes while many are there.
    """
    import asyncio  # here, because those who only ask would wait 20 ms for it

    clients = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        clients += 1
        try:
            if clients <= _MAX_CLIENTS:
                await converse(reader, writer)
        finally:
            clients -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.LimitOverrunError, ValueError):  # OSError: TimeoutError, too
            async with asyncio.timeout(silence_seconds):
                line = await reader.readline()
            reply = await _carry_out(commands, run_commands or {}, on_fault, line)
            writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits for all of it
            writer.write(json.dumps(reply).encode() + b"\n")
            async with asyncio.timeout(silence_seconds):
                await writer.drain()

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
    server = await asyncio.start_unix_server(answer, sock=listener, limit=_MAX_BYTES)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask(
    folder: Path,
    command: str,
    flow_run_id: str | None = None,
    timeout_seconds: float = 30.0,
    meet: Callable[[int, int], None] | None = None,
) -> str:
    """Ask the agent that uses `folder` to do something, perhaps about one flow run; return what it says.

    Raise UnavailableError where no agent answers, LocalAgentError with the agent's own words where it cannot. Whoever
    answers may be anybody who can write to the folder: the whole conversation ends within `timeout_seconds`. `meet` is
    given the process that listens and its user, as the kernel knows them, and may raise to leave it at that.
    """
    until = time.monotonic() + timeout_seconds
    try:
        with _socket_in(folder) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(path)
            if meet is not None:
                meet(*_listener_of(connection))
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
        raise _refusal(reply)
    return str(reply.get("message", ""))


def _listener_of(connection: socket.socket) -> tuple[int, int]:
    """Return the process that made the listening socket, and its user (unix(7), SO_PEERCRED)."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _refusal(reply: Mapping[str, Any]) -> AgentRefusedError:
    code = reply.get("exit_code")  # none from 0.1.0
    return AgentRefusedError(
        str(reply.get("message", "the agent gave no reason")),
        hint=str(reply.get("hint", "")),
        exit_code=code if type(code) is int and 0 < code < 128 else LocalAgentError.exit_code,
    )


async def _carry_out(
    commands: Commands, run_commands: RunCommands, on_fault: Callable[[str], None], line: bytes
) -> dict[str, Any]:
    try:
        message = json.loads(line)
        wanted = message["do"]
        about = message["flow_run"] if wanted in run_commands else None
        command = commands[wanted] if about is None else None
    except (ValueError, KeyError, TypeError, RecursionError):
        known = [*commands, *(f"{name} (with a flow_run)" for name in run_commands)]
        return {"ok": False, "message": f"unknown command; the agent knows {', '.join(known)}"}
    try:
        return {"ok": True, "message": await (command() if command else run_commands[wanted](str(about)))}
    except LocalAgentError as error:
        problems = [*getattr(error, "problems", ())]
        words = "\n  ".join([error.message, *problems])
        return {"ok": False, "message": words, "hint": error.hint, "exit_code": error.exit_code}
    except Exception:
        on_fault(traceback.format_exc())
        return {"ok": False, "message": "a fault of local-agent itself; its log has the traceback", "exit_code": 70}


def _read_reply(connection: socket.socket, until: float) -> dict[str, Any]:
    """Return the one line that answers. Raise OSError where there is none by `until`, or it is none of an agent's."""
    data = bytearray()
    while not data.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or len(data) > _MAX_REPLY_BYTES:
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
def _socket_in(folder: Path) -> Iterator[str]:
    """Give a path to a folder's very own socket, which stays it whatever takes its place meanwhile.

    A link is not followed: root would have another user's agent, or a service of root's, do what the folder's user
    chose. Raise OSError where there is none.
    """
    with _short_path(folder) as short:
        descriptor = os.open(f"{short}/{_NAME}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Give a short path to a folder: a socket's own may have 107 bytes and no more (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
