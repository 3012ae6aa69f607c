"""The other end of puppet.py: puppets in many places of a booted Debian, and the broker's protocol through them.

with Puppets(machine) as puppets:
    agent = puppets.agent("prod1")
    line = agent.broker()
    line.ask({"do": "start", ...})
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from support.machine import Machine

BROKER = "/run/local-agent/broker.socket"
SECONDS = 60.0

_SCRIPT = "/srv/puppet.py"
_PYTHON = "/usr/bin/python3"
_NAMES = itertools.count(1)

_DROP_IN = """\
[Service]
Type=exec
WatchdogSec=0
ExecStart=
ExecStart={python} {script} {port} {name}
Restart=no
{more}
"""


class Remote:
    """A puppet, as a test holds it: an order is a method call."""

    def __init__(self, machine: Machine, connection: socket.socket, lines: IO[str], pid: int) -> None:
        self.machine = machine
        self.pid = pid
        self._connection = connection
        self._lines = lines

    def do(self, order: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever the order returns
        """Have it carry out an order. Raise OSError as the puppet met one."""
        print(json.dumps({"do": order, "args": args, "kwargs": kwargs}), file=self._lines, flush=True)
        answer = json.loads(self._lines.readline())
        if "error" in answer:
            raise OSError(answer["error"])
        return answer["ok"]

    def spawn(self, *words: str) -> int:
        """Start a child."""
        return int(self.do("spawn", list(words)))

    def broker(self, *, greet: bool = True) -> Line:
        """Connect to the broker, and greet it."""
        line = Line(self, self.do("connect", BROKER))
        if greet:
            line.greet()
        return line

    def close(self) -> None:
        """Let go of it; it then ends by itself."""
        self._lines.close()
        self._connection.close()


class Line:
    """A puppet's connection to the broker."""

    def __init__(self, puppet: Remote, number: int) -> None:
        self._puppet = puppet
        self.number = number
        self._ids = itertools.count(1)

    def send(self, message: object, **how: object) -> None:
        """Send a packet: bytes as they are, anything else as JSON."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._puppet.do("send", self.number, data.hex(), **how)

    def receive(self, seconds: float = SECONDS) -> dict[str, Any] | None:
        """Return what the broker says next, None when it hangs up."""
        data = bytes.fromhex(self._puppet.do("receive", self.number, seconds))
        answer: dict[str, Any] | None = json.loads(data) if data else None
        return answer

    def greet(self) -> None:
        """Repeat the broker's greeting."""
        greeting = self.receive()
        assert greeting is not None
        self.send({"hello": greeting["hello"]})

    def ask(self, message: dict[str, object]) -> dict[str, Any] | None:
        """Send a request and return the answer."""
        self.send({"id": next(self._ids), **message})
        return self.receive()

    def asked(self, message: dict[str, object]) -> dict[str, Any]:
        """The same, where a broker that hangs up instead of answering is a failure."""
        answer = self.ask(message)
        assert answer is not None, f"the broker hung up on {message}"
        return answer

    def close(self) -> None:
        """Hang up."""
        self._puppet.do("close", self.number)


class Puppets:
    """The puppets of one machine, until the end of the `with` block."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self._remotes: list[Remote] = []

    def __enter__(self) -> Self:
        self._machine.write(_SCRIPT, Path(__file__).with_name("puppet.py").read_text())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for remote in self._remotes:
            remote.close()
        self._listener.close()

    def agent(self, instance: str, more: str = "", *, is_ready: bool = True) -> Remote:
        """Start a puppet in the place of an agent: as local-agent@INSTANCE.service, with more lines in its drop-in.

        One that is not ready keeps systemd waiting for its READY=1.
        """
        unit = f"local-agent@{instance}.service"
        with self._awaited() as words:
            _, script, port, name = words
            waits = "" if is_ready else "Type=notify\nTimeoutStartSec=infinity\n"
            text = _DROP_IN.format(python=_PYTHON, script=script, port=port, name=name, more=f"{waits}{more}")
            self._machine.write(f"/etc/systemd/system/{unit}.d/puppet.conf", text)
            self._machine.run(["systemctl", "daemon-reload"])
            self._machine.run(["systemctl", "start", *([] if is_ready else ["--no-block"]), unit])
        return self._remotes[-1]

    def service(self, unit: str, *options: str) -> Remote:
        """Start a puppet as a transient unit, with options of systemd-run."""
        with self._awaited() as words:
            self._machine.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *options, *words])
        return self._remotes[-1]

    def user_service(self, user: str, unit: str) -> Remote:
        """Start a puppet as a transient unit of a user's own manager, which has to be running."""
        with self._awaited() as words:
            self._machine.run(["systemd-run", "--user", "--quiet", "--collect", f"--unit={unit}", *words], user=user)
        return self._remotes[-1]

    def child(self, parent: Remote) -> Remote:
        """Have a puppet start another one, in the same place."""
        with self._awaited() as words:
            parent.spawn(*words)
        return self._remotes[-1]

    @contextlib.contextmanager
    def _awaited(self) -> Iterator[tuple[str, str, str, str]]:
        """Give the words that start a puppet, and take its call when they have been used."""
        name = f"puppet-{next(_NAMES)}"
        yield _PYTHON, _SCRIPT, str(self._listener.getsockname()[1]), name
        connection, _ = self._listener.accept()
        connection.settimeout(SECONDS * 2)
        lines = connection.makefile("rw")
        said = json.loads(lines.readline())
        assert said["name"] == name
        self._remotes.append(Remote(self._machine, connection, lines, said["pid"]))
