"""Builds the embedded API and runs it until it is told to stop."""

from __future__ import annotations

import errno
import ipaddress
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sdnotify

from local_agent.errors import ConfigError, UnavailableError
from local_agent.server import timestamps
from local_agent.server.auth import Keys
from local_agent.server.database import Database
from local_agent.server.engine import Engine
from local_agent.server.locks import SUBMIT_LOCK_SECONDS, ExpiringSet
from local_agent.server.stats import Stats
from local_agent.server.timestamps import Clock
from local_agent.server.web import Site, WebServer

# A request in work may finish; what it wrote is safe either way, so there is no reason to wait longer.
_LAST_ANSWERS_SECONDS = 0.3

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


def check(settings: Settings) -> None:
    """Raise ConfigError if other machines could use an API that asks for no key."""
    if settings.api_key is None and not settings.insecure and not is_loopback(settings.host):
        raise ConfigError(
            f"without an API key, --host {settings.host} would let everybody who reaches this machine run code on"
            " it: whoever can create flow runs here chooses what the agents start",
            hint="set a key (--api-key-file PATH or LOCAL_AGENT_SERVER_API_KEY), or add --insecure on a network"
            " that you trust",
        )


def is_loopback(host: str) -> bool:
    """Say whether an address is only reached from this machine. Names other than localhost are taken as not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def build_engine(
    database: Database,
    settings: Settings,
    *,
    stats: Stats,
    say: Callable[[str], None],
    monotonic: Callable[[], float] | None = None,
) -> Engine:
    """Given an open database, return what answers requests."""
    seconds = SUBMIT_LOCK_SECONDS if settings.submit_lock else 0.0
    lock = ExpiringSet(seconds, monotonic) if monotonic else ExpiringSet(seconds)
    return Engine(database, submit_lock=lock, keys=Keys(settings.api_key), stats=stats, say=say)


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
    _allow_many_files()
    with _stop_signals_kept(), closing(Database(settings.data, clock)) as database:
        stats = Stats()
        engine = build_engine(database, settings, stats=stats, say=complain)
        with closing(_listen(settings, Site(engine, Keys(settings.api_key), stats, complain))) as web:
            _serve(web, announce)


def _allow_many_files() -> None:
    """Let this process open as many files as it is allowed to: each connection is one, and the usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _stop_signals_kept() -> Iterator[None]:
    """Keep SIGTERM and SIGINT pending until somebody waits for them.

    A handler could run at any point of the main thread, also where that holds the very lock the handler needs.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ClosableWeb(WebServer):
    def close(self) -> None:
        self.server_close()


def _listen(settings: Settings, site: Site) -> _ClosableWeb:
    try:
        return _ClosableWeb((settings.host, settings.port), site)
    except OSError as error:
        address = f"{settings.host} port {settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise UnavailableError(
                f"{address} is taken by another program",
                hint=f"see which with `ss -ltnp sport = :{settings.port}`, or choose another with --port (0: any free)",
            ) from error
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}", hint="check --host and --port"
        ) from error
    except OverflowError as error:
        raise ConfigError(f"{settings.port} is no port", hint="choose one from 1 to 65535, or 0 for any") from error


def _serve(web: WebServer, announce: Callable[[str], None]) -> None:
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, name="listen")
    thread.start()
    try:
        announce(f"local-agent server listens on {web.url}")
        notifier = sdnotify.SystemdNotifier()
        notifier.notify(f"READY=1\nSTATUS=Listening on {web.url}")
        signal.sigwait(_STOP_SIGNALS)
        notifier.notify("STOPPING=1")
    finally:
        web.shutdown()
        thread.join()
        web.wait_until_idle(_LAST_ANSWERS_SECONDS)
