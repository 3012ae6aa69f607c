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
    from collections.abc import Iterator

_CONNECT_SECONDS = 5.0


class Call:
    """One request, which any thread may cut off while another one waits for its answer."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._new: socket.socket | None = None
        self._lock = threading.Lock()  # a descriptor that is shut down here must not be somebody else's by then
        self.was_cut = False

    def comes_about_on(self, connection: socket.socket) -> None:
        """Note a connection that was just made: a proxy's word and the handshake of TLS are still to come on it."""
        self._hold(connection.dup())  # TLS takes the descriptor away from the one that is given
        if self.was_cut:
            self.cut()

    def travels_on(self, connection: socket.socket | None) -> None:
        """Note the connection on which the answer comes; None once it has come."""
        self._socket = connection
        if connection is None:
            self._hold(None)
        elif self.was_cut:
            self.cut()

    def cut(self) -> None:
        """Make the answer end now, or at once when it comes."""
        self.was_cut = True
        with self._lock:
            for connection in (self._socket, self._new):
                if connection is not None:
                    with contextlib.suppress(OSError):
                        # not SSLSocket's own, which takes the session away under the thread that reads from it
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _hold(self, new: socket.socket | None) -> None:
        with self._lock:
            held, self._new = self._new, new
            if held is not None:
                held.close()


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
        adapter = _Adapter(self, unix_path, pool_connections=1, pool_maxsize=most_at_once, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def came_about(self, connection: socket.socket) -> None:
        """Tell the call of this thread that it has a connection, on which nothing was said yet."""
        call: Call | None = getattr(self._of_thread, "call", None)
        if call is not None:
            call.comes_about_on(connection)

    def travels_on(self, connection: socket.socket) -> None:
        """Tell the call of this thread on which connection its answer comes."""
        call: Call | None = getattr(self._of_thread, "call", None)
        if call is not None:
            call.travels_on(connection)


class _Adapter(requests.adapters.HTTPAdapter):  # type: ignore[misc]  # requests has no types
    def __init__(self, calls: Calls, unix_path: str, **options: object) -> None:
        self._calls = calls
        self._unix_path = unix_path
        super().__init__(**options)

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        super().init_poolmanager(*arguments, **options)
        if self._unix_path:
            self.poolmanager.pool_classes_by_scheme = {"http": _on_unix_socket(self._unix_path)}
        self._have_it_tell(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: object) -> Any:  # noqa: ANN401 - urllib3 has no types
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if is_new:
            self._have_it_tell(manager)
        return manager

    def _have_it_tell(self, manager: Any) -> None:  # noqa: ANN401 - as above
        """Its own pools are kept: those of a SOCKS proxy are others."""
        pools = manager.pool_classes_by_scheme.items()
        manager.pool_classes_by_scheme = {scheme: _telling(pool, self._calls) for scheme, pool in pools}


def _on_unix_socket(path: str) -> Any:  # noqa: ANN401 - urllib3 has no types
    """Return a class of pools whose connections go to a unix socket."""

    class Connection(urllib3.HTTPConnectionPool.ConnectionCls):  # type: ignore[misc]  # as above
        def _new_conn(self) -> socket.socket:  # urllib3 1.26 and 2 both make a connection's socket by this
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(_CONNECT_SECONDS)
                connection.connect(path)
            except BaseException:  # whatever it is: nobody else knows of this descriptor yet
                connection.close()
                raise
            return connection

    class Pool(urllib3.HTTPConnectionPool):  # type: ignore[misc]  # as above
        ConnectionCls = Connection

    return Pool


def _telling(pool: Any, calls: Calls) -> Any:  # noqa: ANN401 - urllib3 has no types
    """Given a class of pools, return one whose connections tell when they are made and before they wait."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]  # as above
        def _new_conn(self) -> Any:  # noqa: ANN401 - as above
            connection = super()._new_conn()
            calls.came_about(connection)
            return connection

        def getresponse(self) -> Any:  # noqa: ANN401 - as above
            calls.travels_on(self.sock)
            return super().getresponse()

    class Pool(pool):  # type: ignore[misc]  # as above
        ConnectionCls = Connection

    return Pool
