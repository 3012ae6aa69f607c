"""The broker's client: how an agent without privileges gets its scopes. The protocol is in `broker.protocol`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from itertools import count
from typing import TYPE_CHECKING, Any

from local_agent.broker.protocol import MAX_ANSWER_BYTES, Code
from local_agent.errors import ManagerUnreachableError, NoAnswerError
from local_agent.units.names import description_of, flow_run_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from local_agent.systemd import ScopeManager, ScopeRequest, ScopeStatus

# longer than the broker itself waits for systemd (30 s), so that its words arrive; a scope may take its time to stop
_ANSWER_SECONDS = 45.0
_STOP_SECONDS = 90.0
_TAIL_SECONDS = 45.0  # its turn, what journald has still to read, and the reading
_GREETING_SECONDS = 30.0
_TRIES = 3
_MAX_TAILS = 6
_HINT = "systemctl status local-agent-broker.socket local-agent-broker.service"


class BrokerScopeManager:
    """A ScopeManager by way of the broker on `path`. Connects when first needed, and whenever the last one ended.

    Anybody may read how units stand, so that goes over the bus, by `reads`: at shutdown systemd starts no broker any
    more, and it is then that ends have to be told apart.
    """

    def __init__(self, path: Path, reads: ScopeManager) -> None:
        self._path = path
        self._reads = reads
        self._connecting = asyncio.Lock()
        self._tails = 0  # last lines that are waited for
        self._lines: set[_Line] = set()  # the last may be taking requests, the others still give answers

    async def reason_against(self, *, thoroughly: bool) -> str:
        """Be greeted by a broker where none is at hand, and reach the bus."""
        await self._connected()
        return await self._reads.reason_against(thoroughly=thoroughly)

    async def start_scope(self, request: ScopeRequest) -> None:
        """Start a scope around a process. Slice and ordering are the broker's own choice, by this agent's cgroup."""
        await self._ask(
            "start",
            flow_run=flow_run_of(request.unit),
            pid=request.pid,
            description=description_of(request.description),
            stop_seconds=request.stop_seconds,
            limits=request.limits.in_cgroup(),
            **_more_of(request),
        )

    async def stop(self, unit: str) -> None:
        """Stop a scope."""
        await self._ask("stop", timeout_seconds=_STOP_SECONDS, flow_run=flow_run_of(unit))

    async def kill(self, unit: str, signal: int) -> None:
        """Signal a scope's processes."""
        await self._ask("kill", flow_run=flow_run_of(unit), signal=int(signal))

    async def status(self, unit: str) -> ScopeStatus | None:
        """Read a scope's ActiveState and Result."""
        return await self._reads.status(unit)

    async def reset_failed(self, unit: str) -> None:
        """Reset a failed scope. Most have not failed, and need no broker."""
        status = await self.status(unit)
        if status is not None and status.active_state == "failed":
            await self._ask("reset-failed", flow_run=flow_run_of(unit))

    async def is_shutting_down(self) -> bool:
        """Read the manager's SystemState."""
        return await self._reads.is_shutting_down()

    async def last_lines(self, unit: str, most: int) -> Sequence[str]:
        """Return the last lines of a flow run from the journal; none where there is no broker to read it.

        Nor where many wait for theirs: each costs the broker two processes, and no end is to be told late for it.
        """
        if self._tails >= _MAX_TAILS:
            return ()
        self._tails += 1
        try:
            answer = await self._ask("tail", timeout_seconds=_TAIL_SECONDS, flow_run=flow_run_of(unit), lines=most)
        except ManagerUnreachableError:
            return ()
        finally:
            self._tails -= 1
        return tuple(str(line) for line in answer["lines"])

    async def close(self) -> None:
        """Close the connections."""
        await self._reads.close()
        for line in list(self._lines):
            await line.close()
        self._lines.clear()

    async def _ask(self, verb: str, timeout_seconds: float = _ANSWER_SECONDS, **parts: object) -> dict[str, Any]:
        for _ in range(_TRIES):
            line = await self._connected()
            try:
                async with asyncio.timeout(timeout_seconds):
                    reply = await line.ask({"do": verb, **parts})
            except TimeoutError as error:
                raise ManagerUnreachableError(f"the broker did not answer {verb} in time", hint=_HINT) from error
            except OSError:
                continue  # it takes no more, as it is about to end: the next broker gets it
            if "ok" not in reply:
                raise _refusal(verb, reply)
            ok: dict[str, Any] = reply["ok"]
            return ok
        raise ManagerUnreachableError(f"the broker at {self._path} takes no requests", hint=_HINT)

    async def _connected(self) -> _Line:
        async with self._connecting:
            self._lines = {line for line in self._lines if not line.is_over}
            for line in self._lines:
                if line.takes_requests:
                    return line
            try:
                async with asyncio.timeout(_GREETING_SECONDS):
                    line = await self._open_line()
            except (OSError, TimeoutError, ValueError) as error:
                words = f"cannot reach the broker at {self._path}: {error or 'it does not answer'}"
                raise ManagerUnreachableError(words, hint=_HINT) from error
            self._lines.add(line)
            return line

    async def _open_line(self) -> _Line:
        """Connect, once more where a broker that is about to end takes the connection and hangs up."""
        try:
            return await _Line.open(self._path)
        except ConnectionError:
            return await _Line.open(self._path)


class _Line:
    """One connection to a broker, of which there is a new one now and then."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = asyncio.Lock()
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.takes_requests = True
        self.is_over = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: Path) -> _Line:
        """Connect and greet. Raise OSError or ValueError without a broker, ManagerUnreachableError for its no."""
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(0)
            await loop.sock_connect(connection, str(path))
            nonce = _nonce(await loop.sock_recv(connection, MAX_ANSWER_BYTES))
            await loop.sock_sendall(connection, _encoded({"hello": nonce}))
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer. Raise OSError where it was not taken, and so surely is not done."""
        request_id = next(self._ids)
        answer = self._answers[request_id] = asyncio.get_running_loop().create_future()
        try:
            async with self._sending:
                await asyncio.get_running_loop().sock_sendall(self._socket, _encoded({"id": request_id, **message}))
            reply: dict[str, Any] = await answer
        except OSError:
            self.takes_requests = False
            raise
        finally:
            del self._answers[request_id]
        return reply

    async def close(self) -> None:
        """Hang up."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        reason = "the agent closes its connection to the broker"
        try:
            reason = await self._read_answers()
        finally:
            self.takes_requests, self.is_over = False, True
            self._socket.close()
            for future in self._answers.values():
                if not future.done():
                    future.set_result({"error": Code.NO_ANSWER.value, "message": reason})

    async def _read_answers(self) -> str:
        """Hand out answers until there are no more, and return why."""
        loop = asyncio.get_running_loop()
        try:
            while packet := await loop.sock_recv(self._socket, MAX_ANSWER_BYTES):
                answer = json.loads(packet)
                if "id" not in answer:
                    return str(answer.get("message"))
                future = self._answers.get(answer["id"])
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, ValueError) as error:
            return f"the connection to the broker broke: {error}"
        return "the broker has hung up"


def _more_of(request: ScopeRequest) -> dict[str, Any]:
    """Return what is left out where it is the usual: a broker from before an upgrade knows no more."""
    return {} if request.oom_policy == "stop" else {"oom_policy": request.oom_policy}


def _nonce(packet: bytes) -> str:
    if not packet:
        raise ConnectionResetError("it hung up without a word")
    greeting = json.loads(packet)
    if "hello" not in greeting:
        raise _refusal("this agent", greeting)
    return str(greeting["hello"])


def _refusal(what: str, reply: dict[str, Any]) -> ManagerUnreachableError:
    has_none = reply.get("error") == Code.NO_ANSWER.value
    kind = NoAnswerError if has_none else ManagerUnreachableError
    return kind(
        f"the broker refuses {what}: {reply.get('message', 'it gives no reason')}",
        hint=_HINT if has_none else "journalctl -u local-agent-broker",
    )


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
