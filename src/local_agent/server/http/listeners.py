"""Where the server listens: an address, and a unix socket that nobody else can have put there."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from local_agent.errors import ConfigError, LocalAgentError, UnavailableError
from local_agent.net.http_guard import as_address

# sun_path has 108, the last one a NUL (unix(7)).
MAX_PATH_BYTES = 107


@contextmanager
def tcp(host: str, port: int) -> Iterator[socket.socket]:
    """Listen at an address for the length of the context. Raise ConfigError, or UnavailableError where it is taken."""
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as listener:
        try:
            # A restart must get its port back at once.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        yield listener


def url(listener: socket.socket) -> str:
    """Given a listener of `tcp`, return its URL on this machine."""
    host, port = listener.getsockname()[:2]
    address = as_address(host)
    if address is not None and address.is_unspecified:
        host = "::1" if address.version == 6 else "127.0.0.1"
    return _as_url(host, port)


def shown(listener: socket.socket) -> str:
    """Given a listener, return where it listens, for people."""
    if listener.family == socket.AF_UNIX:
        return f"unix://{listener.getsockname()}"
    return _as_url(*listener.getsockname()[:2])


def _as_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _cannot_listen(host: str, port: int, error: OSError) -> LocalAgentError:
    if error.errno == errno.EADDRINUSE:
        return UnavailableError(
            f"{host} port {port} is taken by another program",
            hint=f"see which with `ss -ltnp sport = :{port}`, or choose another with --port (0: any free)",
        )
    return ConfigError(
        f"cannot listen on {host} port {port}: {error.strerror or error}", hint="check --host and --port"
    )


@contextmanager
def unix(path: Path, *, for_others: bool) -> Iterator[socket.socket]:
    """Listen on a unix socket for the length of the context, which removes it. Others may connect, if that is said.

    A socket that an ended server has left there is replaced. Raise ConfigError where no socket can safely be, and
    UnavailableError where another program has it.
    """
    path = path.absolute()
    check_place(path)
    with closing(_claimed(path)):
        _remove_stale(path)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            _bind(listener, path, 0o666 if for_others else 0o600)
            made = os.lstat(path)
            try:
                yield listener
            finally:
                _remove_own(path, made)


def check_place(path: Path) -> None:
    """Raise ConfigError for a path on which somebody else could put a socket, which agents would then ask."""
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise ConfigError(
            f"the socket's path has {length} bytes, and the kernel takes {MAX_PATH_BYTES}: {path}",
            hint="choose a shorter one with --socket",
        )
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise ConfigError(
            f"the socket {path} cannot be made: {path.parent}: {error.strerror}",
            hint="make the folder, or have systemd make it: RuntimeDirectory=local-agent-server",
        ) from error
    if who := _who_else_may_write(folder):
        raise ConfigError(
            f"the socket {path} cannot be made safely: {who} may write in {path.parent}, and could put another in its"
            " place, which agents would take flow runs from",
            hint="choose a folder that only this server's user writes in (chmod go-w), such as one in /run",
        )


def _who_else_may_write(folder: os.stat_result) -> str:
    if folder.st_uid not in (0, os.geteuid()):
        return f"its owner, uid {folder.st_uid},"
    if folder.st_mode & stat.S_IWOTH:
        return "every user"
    if folder.st_mode & stat.S_IWGRP and folder.st_gid not in (0, os.getegid()):
        return f"the group {folder.st_gid}"
    return ""


def _claimed(path: Path) -> IO[bytes]:
    """Keep other servers from this path until what is returned is closed, also one that starts at the same moment."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        held = os.fdopen(os.open(lock, flags, 0o600), "rb", buffering=0)
    except OSError as error:
        raise _unusable(path, f"{lock}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise _taken(path) from error
    return held


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that has ended. Raise a LocalAgentError for anything else that is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    if not stat.S_ISSOCK(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "no socket"
        raise _unusable(path, f"what is there is {what}, and is left alone")
    if _is_served(path):
        raise _taken(path)
    try:
        path.unlink()
    except OSError as error:
        raise _unusable(path, f"an ended server's socket cannot be removed: {error.strerror}") from error


def _is_served(path: Path) -> bool:
    """Whether some program listens on a socket. A connection that it would have to wait for counts."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(0)
        try:
            probe.connect(os.fsencode(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _bind(listener: socket.socket, path: Path, mode: int) -> None:
    before = os.umask(0o177)  # nobody connects before it has its mode
    try:
        listener.bind(os.fsencode(path))
        path.chmod(mode)
        listener.listen()
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    finally:
        os.umask(before)


def _remove_own(path: Path, made: os.stat_result) -> None:
    """Remove the socket, unless somebody has put another thing in its place."""
    with suppress(OSError):
        if os.path.samestat(os.lstat(path), made):
            path.unlink()


def _unusable(path: Path, reason: object) -> ConfigError:
    return ConfigError(f"the socket {path} cannot be made: {reason}", hint="choose another path with --socket")


def _taken(path: Path) -> UnavailableError:
    return UnavailableError(
        f"the socket {path} is taken by another program",
        hint=f"see which with `ss -lxp src {path}`, or choose another path with --socket",
    )
