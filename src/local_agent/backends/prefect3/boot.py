"""Runs Prefect's engine for one flow run, and passes on to it the word that the run is cancelled.

The flows' own interpreter executes this file, so it has nothing but the standard library, of Python 3.9 and later. The
agent writes `c` into a FIFO beside the run's record. From Prefect 3.6 on an engine asks whoever started it, over a
loopback connection, why it gets a SIGTERM: it is told here, within its own process, so an agent that starts anew in the
meantime makes no difference. An engine that has not connected gets the signal alone.
"""

from __future__ import annotations

import os
import sys

if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):  # noqa: PTH120
    # as with `python -m prefect.engine`; nothing is to be imported from beside this file
    sys.path[0] = os.getcwd()  # noqa: PTH109

import contextlib
import runpy
import secrets
import signal
import socket
import threading

_PORT, _TOKEN = "PREFECT__CONTROL_PORT", "PREFECT__CONTROL_TOKEN"
_CANCEL, _ACKNOWLEDGED = b"c", b"a"
_TOKEN_SECONDS = 1.0  # the engine sends its token as soon as it is connected; a stranger must not hold its place
_CONNECTING_SECONDS = 1.0  # it may be about to connect, and with its handler set and no reason it says Crashed
_ACKNOWLEDGE_SECONDS = 5.0


class Control:
    """Waits for the agent's word on one side and for the engine on the other."""

    def __init__(self, fifo: str) -> None:
        # for writing, too: without a writer a FIFO is at its end, and agents come and go
        self._fifo = os.open(fifo, os.O_RDWR)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._token = secrets.token_hex(16)
        self._engine: socket.socket | None = None
        self._is_connected = threading.Event()

    def serve(self) -> None:
        """Put the address where the engine looks for it, and start the threads; the interpreter's end ends them."""
        os.environ[_PORT] = str(self._listener.getsockname()[1])
        os.environ[_TOKEN] = self._token
        for work in (self._await_engine, self._await_agent):
            threading.Thread(target=work, name="local-agent-control", daemon=True).start()

    def _await_engine(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._is_engine(connection):
                break
            connection.close()
        self._engine = connection
        self._is_connected.set()
        self._listener.close()

    def _is_engine(self, connection: socket.socket) -> bool:
        """Whoever is on this machine may connect; only the engine has the token."""
        connection.settimeout(_TOKEN_SECONDS)
        due = f"{self._token}\n".encode()
        given = b""
        with contextlib.suppress(OSError):
            while len(given) < len(due) and (more := connection.recv(len(due) - len(given))):
                given += more
        return secrets.compare_digest(given, due)

    def _await_agent(self) -> None:
        """Once: a second SIGTERM would end the flow's hooks."""
        while os.read(self._fifo, 1) != _CANCEL:
            pass
        if _PORT not in os.environ:  # an engine that will connect takes it away at its start
            self._is_connected.wait(_CONNECTING_SECONDS)
        if self._engine is not None:
            self._tell(self._engine)
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell(self, engine: socket.socket) -> None:
        """Say why the signal will come, and wait until that is understood; what else the engine says is not for us."""
        with contextlib.suppress(OSError):
            engine.settimeout(_ACKNOWLEDGE_SECONDS)
            engine.sendall(_CANCEL)
            while (said := engine.recv(1)) and said != _ACKNOWLEDGED:
                pass


if __name__ == "__main__":
    control = os.environ.pop("LOCAL_AGENT_CONTROL", "")
    if control:
        Control(control).serve()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
