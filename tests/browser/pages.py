"""A stranger's web page, at a name of its own; and one whose name leads to this machine once it is loaded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

EVIL = "evil.example"
REBOUND = "rebound.example"
# What a resolver of the stranger's says; nothing else is found at all.
_NAMES = f"MAP {EVIL} 127.0.0.1, MAP {REBOUND} 127.0.0.2, EXCLUDE localhost, EXCLUDE 127.0.0.1, MAP * ~NOTFOUND"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI is root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    f"--host-resolver-rules={_NAMES}",
)
_SCRIPT_SECONDS = 120


@contextmanager
def browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """Start Debian's Chromium, without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)  # type: ignore[no-untyped-call]
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    try:
        driver.set_script_timeout(_SCRIPT_SECONDS)
        yield driver
    finally:
        driver.quit()


@dataclass
class Page:
    """Serves the stranger's page at a port of a loopback address. After `rebind` that leads to a port of 127.0.0.1."""

    address: str
    port: int
    _to: int | None = None
    _open: list[tuple[socket.socket, threading.Thread]] = field(default_factory=list)

    def rebind(self, port: int) -> None:
        """Have the page's own name lead to whatever listens at a port of this machine."""
        self._to = port

    def serve(self, listener: socket.socket) -> None:
        """Answer until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                thread = threading.Thread(target=self._answer, args=(connection,), daemon=True)
                self._open.append((connection, thread))
                thread.start()

    def hang_up(self) -> None:
        """End all that is open: browsers keep connections that they may need."""
        for connection, thread in self._open:
            _shut(connection)
            thread.join()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            first = connection.recv(65_536)
            if self._to is None:
                content = b"<!doctype html><title>kittens</title><body>"
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                connection.sendall(head % len(content) + content)
            else:
                self._forward(connection, first, self._to)

    def _forward(self, connection: socket.socket, first: bytes, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(first)
            back = threading.Thread(target=_pump, args=(other, connection), daemon=True)
            back.start()
            _pump(connection, other)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _shut(source)
    _shut(sink)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def page(address: str, port: int = 0) -> Iterator[Page]:
    """Serve a stranger's page for the length of the context."""
    with closing(socket.create_server((address, port))) as listener:
        served = Page(address, int(listener.getsockname()[1]))
        thread = threading.Thread(target=served.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            _shut(listener)
            thread.join()
            served.hang_up()
