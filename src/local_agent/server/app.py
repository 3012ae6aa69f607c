"""Builds the embedded API and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import sdnotify

from local_agent.errors import ConfigError
from local_agent.net import http_guard
from local_agent.server.asking.auth import Keys
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds import tidiness
from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.bounds.limits import Limits
from local_agent.server.data import timestamps
from local_agent.server.data.database import Database
from local_agent.server.data.locks import SUBMIT_LOCK_SECONDS, ExpiringSet
from local_agent.server.data.timestamps import Clock
from local_agent.server.engine import Engine
from local_agent.server.http import listeners
from local_agent.server.http.access import Access
from local_agent.server.http.activation import Passed
from local_agent.server.http.callers import Callers
from local_agent.server.http.peers import Allowed
from local_agent.server.http.web import Site, WebServer

# A request in work may finish; what it wrote is safe either way, so there is no reason to wait longer.
_LAST_ANSWERS_SECONDS = 0.3

# The data file's, the listener, the console and what the loop needs.
_OTHER_FILES = 24

_SWITCH_SECONDS = 0.0001

_STOP_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT))


@dataclass(frozen=True)
class Settings:
    """What `local-agent server` is told."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 4200
    api_key: str | None = field(default=None, repr=False)
    insecure: bool = False
    submit_lock: bool = True
    passed: Passed = field(default_factory=Passed)
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    unix_socket: Path | None = None
    allowed: Allowed = field(default_factory=Allowed)

    @property
    def serves_unix(self) -> bool:
        """Whether there is a unix socket; then a key is needed on TCP."""
        return self.unix_socket is not None or bool(self.passed.unix)

    @property
    def hosts(self) -> list[str]:
        """The addresses on which it listens."""
        return [str(each.getsockname()[0]) for each in self.passed.tcp] or [self.host]


def check(settings: Settings) -> None:
    """Raise ConfigError if other machines could use an API that asks for no key."""
    if settings.api_key is not None or settings.serves_unix or settings.insecure:
        return
    open_to_others = [each for each in settings.hosts if not http_guard.is_loopback(each)]
    if open_to_others:
        raise ConfigError(
            f"without an API key, {'ListenStream=' if settings.passed.tcp else '--host '}{open_to_others[0]} would let"
            " everybody who reaches this machine run code on it: whoever can create flow runs here chooses what the"
            " agents start",
            hint="set a key (--api-key-file PATH or LOCAL_AGENT_SERVER_API_KEY), or add --insecure on a network"
            " that you trust",
        )


def build_engine(
    database: Database,
    settings: Settings,
    *,
    stats: Stats,
    say: Callable[[str], None],
    monotonic: Callable[[], float] = time.monotonic,
    budget: Budget = DEFAULT,
) -> Engine:
    """Given an open database, return what answers requests."""
    lock = ExpiringSet(SUBMIT_LOCK_SECONDS if settings.submit_lock else 0.0, monotonic)
    keys = _keys(settings, database)
    return Engine(database, submit_lock=lock, keys=keys, stats=stats, say=say, monotonic=monotonic, budget=budget)


def _keys(settings: Settings, database: Database) -> Keys:
    return Keys(settings.api_key, tuple(_keys_by_allowance(settings, database).values()))


def _keys_by_allowance(settings: Settings, database: Database) -> dict[str, str]:
    """Return what those who may use the unix socket hand to their flow runs; without one every key has ended."""
    return database.access_keys(settings.allowed.accounts() if settings.serves_unix else {})


def run(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    complain: Callable[[str], None],
    clock: Clock = timestamps.utc_now,
) -> None:
    """Serve until SIGTERM or SIGINT. Raise a LocalAgentError if it cannot be begun.

    `announce` prints the one line that says where it listens, `complain` what the administrator should know.
    """
    check(settings)
    most_files = _allow_many_files()
    # A thread that parses something large must not hold up the loop by 5 ms whenever that comes back from the kernel: a
    # small request does so some eight times, so that even 1 ms left others half of their pace.
    sys.setswitchinterval(_SWITCH_SECONDS)
    with _stop_signals_kept(), closing(Database(settings.data, clock, say=complain)) as database:
        stats = Stats()
        engine = build_engine(database, settings, stats=stats, say=complain)
        with _tcp(settings) as tcp, _unix(settings) as unix:
            access = Access(listeners.url(tcp[0]), _keys_by_allowance(settings, database))
            keys, callers = _keys(settings, database), _callers(settings, tcp)
            site = Site(engine, keys, stats, callers, complain, _limits(most_files), settings.allowed, access)
            asyncio.run(_serve(site, [*unix, *tcp], announce))


@contextmanager
def _tcp(settings: Settings) -> Iterator[Sequence[socket.socket]]:
    if settings.passed.tcp:
        yield settings.passed.tcp
        return
    with listeners.tcp(settings.host, settings.port) as listener:
        yield [listener]


@contextmanager
def _unix(settings: Settings) -> Iterator[Sequence[socket.socket]]:
    if settings.unix_socket is None:
        yield settings.passed.unix
        return
    others = settings.allowed.users - {0, os.geteuid()}
    with listeners.unix(settings.unix_socket, for_others=bool(others or settings.allowed.groups)) as listener:
        yield [listener]


def _allow_many_files() -> int:
    """Let this process open as many files as it is allowed to, and return how many that are.

    Each connection is one, and the usual limit is 1024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _limits(most_files: int) -> Limits:
    usual = Limits()
    places = most_files - _OTHER_FILES
    if 0 < places < usual.connections:
        return replace(usual, connections=places)
    return usual


def _callers(settings: Settings, tcp: Sequence[socket.socket]) -> Callers:
    bound = {each.lower() for each in settings.hosts} | {str(each.getsockname()[0]) for each in tcp}
    return Callers(frozenset(bound), frozenset(settings.allow_hosts), frozenset(settings.allow_origins))


@contextmanager
def _stop_signals_kept() -> Iterator[None]:
    """Keep SIGTERM and SIGINT pending until somebody waits for them: then they end what is under way in good order."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _serve(site: Site, sockets: Sequence[socket.socket], announce: Callable[[str], None]) -> None:
    web = WebServer(site)
    try:
        for listener in sockets:
            await web.listen(listener)
        tidiness.keep_for_good()
        places = [listeners.shown(listener) for listener in sockets]
        for place in places:
            announce(f"local-agent server listens on {place}")
        notifier = sdnotify.SystemdNotifier()
        notifier.notify(f"READY=1\nSTATUS=Listening on {' and '.join(places)}")
        await _stop_signal()
        notifier.notify("STOPPING=1")
    finally:
        await web.close(_LAST_ANSWERS_SECONDS)


async def _stop_signal() -> None:
    """Return when SIGTERM or SIGINT has come."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    await stopped.wait()
