"""The HTTP side of the embedded API within this process, with limits and answers of a test's own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from local_agent.server.asking.auth import Keys
from local_agent.server.asking.request import Asked
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds.limits import Limits
from local_agent.server.engine import Answer, Next
from local_agent.server.http.callers import Callers
from local_agent.server.http.web import Site, WebServer

SECONDS = 60


@dataclass
class Echo:
    """Answers each request with `say`, at once or in a thread."""

    say: Callable[[Asked], str] = lambda asked: asked.body.decode()
    slowly: bool = False
    batches: list[int] = field(default_factory=list)

    def answer_all(self, asked: Sequence[Asked]) -> list[Answer | Next]:
        """Answer all that came together."""
        self.batches.append(len(asked))
        return [Next.SLOWLY if self.slowly else Answer(200, self.say(one)) for one in asked]

    def answer_slowly(self, asked: Asked) -> Answer:
        """Answer in a thread."""
        return Answer(200, self.say(asked))


@dataclass
class Hosted:
    """A server that runs. `said` has the lines for its console."""

    port: int
    said: list[str]
    stats: Stats

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)


@contextmanager
def hosted(limits: Limits, engine: Echo | None = None, key: str | None = None) -> Iterator[Hosted]:
    """Serve in a thread for the length of the context."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Hosted(listener.getsockname()[1], [], Stats())
    callers = Callers(frozenset(("127.0.0.1",)))
    site = Site(engine or Echo(), Keys(key), server.stats, callers, server.said.append, limits)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        web = WebServer(site)
        await web.listen(listener)
        ready.set()
        await stop.wait()
        await web.close(0.3)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        thread = threading.Thread(target=runner.run, args=(serve(),), name="hosted")
        thread.start()
        try:
            assert ready.wait(SECONDS)
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(SECONDS)
            listener.close()


def ended(connection: socket.socket) -> bool:
    """Wait until the other end hangs up, and say whether it did."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True
