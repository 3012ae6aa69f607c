"""A bound on how long a request takes in all. The timeouts of requests bound each silence, and not their number: an
answer that comes one byte a second would hold its thread, and whoever waits for it, for as long as it likes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import requests
import urllib3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONNECT_SECONDS = 5.0


class Call:
    """One request, which any thread may cut off while another one waits for its answer."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.was_cut = False

    def travels_on(self, connection: socket.socket | None) -> None:
        """Note the connection on which the answer comes; None once it has come."""
        self._socket = connection
        if self.was_cut:
            self.cut()

    def cut(self) -> None:
        """Make the answer end now, or at once when it comes."""
        self.was_cut = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                # not SSLSocket's own, which takes the session away under the thread that reads from it
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class Calls:
    """Knows which call each thread carries out, for the connections that a session makes for it."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @contextlib.contextmanager
    def carrying_out(self, call: Call) -> Iterator[None]:
        """Carry out a call in this thread for the length of the context."""
        self._of_thread.call = call
        try:
            yield
        finally:
            call.travels_on(None)
            self._of_thread.call = None

    def session(self, most_at_once: int, unix_path: str = "") -> requests.Session:
        """Return a session whose requests may be cut off, with so many connections.

        With the path of a unix socket each of them goes there, whatever its URL says.
        """
        session = requests.Session()
        session.trust_env = not unix_path  # no proxy stands between
        adapter = _Adapter(self._travels_on, unix_path, pool_connections=1, pool_maxsize=most_at_once, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def _travels_on(self, connection: socket.socket) -> None:
        call: Call | None = getattr(self._of_thread, "call", None)
        if call is not None:
            call.travels_on(connection)


class _Adapter(requests.adapters.HTTPAdapter):  # type: ignore[misc]  # requests has no types
    def __init__(self, on_socket: Callable[[socket.socket], None], unix_path: str, **options: object) -> None:
        of_tcp = [urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool]
        pools = [_on_unix_socket(unix_path)] if unix_path else of_tcp
        self._pools = {pool.scheme: _telling(pool, on_socket) for pool in pools}
        super().__init__(**options)

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: object) -> Any:  # noqa: ANN401 - urllib3 has no types
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _on_unix_socket(path: str) -> Any:  # noqa: ANN401 - urllib3 has no types
    """Return a class of pools whose connections go to a unix socket."""

    class Connection(urllib3.HTTPConnectionPool.ConnectionCls):  # type: ignore[misc]  # as above
        def _new_conn(self) -> socket.socket:  # urllib3 1.26 and 2 both make a connection's socket by this
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(_CONNECT_SECONDS)
                connection.connect(path)
            except BaseException:
                connection.close()
                raise
            return connection

    class Pool(urllib3.HTTPConnectionPool):  # type: ignore[misc]  # as above
        ConnectionCls = Connection

    return Pool


def _telling(pool: Any, on_socket: Callable[[socket.socket], None]) -> Any:  # noqa: ANN401 - urllib3 has no types
    """Given a class of pools, return one whose connections tell `on_socket` before they wait for an answer."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]  # as above
        def getresponse(self) -> Any:  # noqa: ANN401 - as above
            on_socket(self.sock)
            return super().getresponse()

    class Pool(pool):  # type: ignore[misc]  # as above
        ConnectionCls = Connection

    return Pool
