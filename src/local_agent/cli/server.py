"""`local-agent server`."""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from local_agent.aio.outbox import complaints_never_block, lines_never_block
from local_agent.errors import ConfigError, CredentialError
from local_agent.net import http_guard

_LAST_WORDS_SECONDS = 1.5


def default_data_path(environment: Mapping[str, str]) -> Path:
    """Given the environment, return where the data file lies: in systemd's state folder, else in the user's own."""
    if environment.get("STATE_DIRECTORY"):
        return Path(environment["STATE_DIRECTORY"].split(":")[0]) / "server.db"
    state_home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state_home) / "local-agent" / "server" / "server.db"


def read_key(key: str | None, key_file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Return the API key: the option's, the file's, the environment's, or None. Raise CredentialError."""
    if key_file is not None:
        key = _read_key_file(key_file)
    elif key is None:
        key = environment.get("LOCAL_AGENT_SERVER_API_KEY")
    if key is None or not key.strip():
        return None
    if not key.strip().isascii() or not key.strip().isprintable() or " " in key.strip():
        raise CredentialError(
            "the API key cannot be sent in a header: it must be printable ASCII without blanks",
            hint="make one with: openssl rand -hex 24",
        )
    return key.strip()


def _read_key_file(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialError(
            f"the API key file {path} cannot be read: {error}", hint="check --api-key-file"
        ) from error
    if not key:
        raise CredentialError(f"the API key file {path} is empty", hint="write the key into it")
    return key


def read_user(text: str) -> int:
    """Given --allow-user, return the user's number. Raise ConfigError."""
    try:
        return int(text) if text.isascii() and text.isdigit() else pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError) as error:
        raise ConfigError(f"--allow-user {text!r} is no user of this machine", hint="see: getent passwd") from error


def read_group(text: str) -> int:
    """Given --allow-group, return the group's number. Raise ConfigError."""
    try:
        return int(text) if text.isascii() and text.isdigit() else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError) as error:
        raise ConfigError(f"--allow-group {text!r} is no group of this machine", hint="see: getent group") from error


def read_host(text: str) -> str:
    """Given --allow-host, return the name or address as it is compared. Raise ConfigError."""
    name = http_guard.host_name(f"[{text}]" if ":" in text and not text.startswith("[") else text)
    if name is None or name != text.strip("[]").lower().removesuffix("."):
        raise ConfigError(
            f"--allow-host {text!r} is no host's name", hint="give what stands between http:// and the port"
        )
    return name


def read_origin(text: str) -> str:
    """Given --allow-origin, return the origin as browsers write it. Raise ConfigError."""
    parts = urlsplit(text)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if parts.scheme not in ("http", "https") or not parts.hostname or text.lower().removesuffix("/") != origin:
        raise ConfigError(
            f"--allow-origin {text!r} is no page's origin",
            hint="give its scheme, host and port: http://ui.example:8080",
        )
    return origin


def _check_installed() -> None:
    if importlib.util.find_spec("local_agent.server") is None:
        raise ConfigError(
            "the embedded API is a package of its own, which is not installed",
            hint="apt install local-agent-server (Debian 13 and later), or pip install 'local-agent[server]'",
        )
    for module, package in (("graphql", "graphql-core"), ("aiohttp", "aiohttp")):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"the embedded API needs the Python package {package}, which is not installed",
                hint=f"apt install python3-{package} (Debian 13 and later), or pip install 'local-agent[server]'",
            )


def _check_not_both(context: click.Context, *, is_tcp: bool, is_unix: bool) -> None:
    """Raise ConfigError for an option that says where to listen, where systemd passes a socket of that kind."""
    taken = (("host", is_tcp), ("port", is_tcp), ("unix_socket", is_unix))
    for name, is_passed in taken:
        if is_passed and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = "--socket" if name == "unix_socket" else f"--{name}"
            raise ConfigError(
                f"{option} and the socket that systemd passes both say where to listen",
                hint=f"leave {option} out and set ListenStream= (systemctl edit local-agent-server.socket), or disable"
                " that socket",
            )


@click.command(name="server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=4200, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0: any free."
)
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    help="SQLite file that holds everything.  [default: $STATE_DIRECTORY/server.db, or"
    " $XDG_STATE_HOME/local-agent/server/server.db]",
)
@click.option(
    "--api-key",
    help="Key that requests must carry, as with Prefect Cloud. Other users see command lines:"
    " better use --api-key-file or LOCAL_AGENT_SERVER_API_KEY.",
)
@click.option("--api-key-file", type=click.Path(dir_okay=False, path_type=Path), help="File that holds the key.")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Further name under which it is reached, as its clients have it in their URL (without a port). Requests for"
    " other names are refused: loopback's names and the address of --host are known.  [repeatable]",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web page that may use this API, like http://ui.example:8080. By default no page of another site may."
    "  [repeatable]",
)
@click.option(
    "--socket",
    "unix_socket",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Listen on a unix socket, too, which asks the kernel who connects, and for no key: root and this user may, and"
    ' whom the next two options name. Agents use it with api = "unix://PATH". On --host and --port every request then'
    " needs a key; who may use the socket gets one there for flow runs, from GET /access.",
)
@click.option(
    "--allow-user",
    "allow_users",
    multiple=True,
    metavar="USER",
    help="User, by name or number, whose processes may use the --socket, too.  [repeatable]",
)
@click.option(
    "--allow-group",
    "allow_groups",
    multiple=True,
    metavar="GROUP",
    help="Group whose processes may use the --socket, too.  [repeatable]",
)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine although there is no key.")
@click.option(
    "--no-submit-lock",
    is_flag=True,
    help="Let a flow run be submitted again at once, as a Prefect Server of several replicas does. For tests.",
)
def command(
    *,
    host: str,
    port: int,
    data: Path | None,
    api_key: str | None,
    api_key_file: Path | None,
    allow_hosts: tuple[str, ...],
    allow_origins: tuple[str, ...],
    unix_socket: Path | None,
    allow_users: tuple[str, ...],
    allow_groups: tuple[str, ...],
    insecure: bool,
    no_submit_lock: bool,
) -> None:
    """Run the embedded Prefect 1 API, for one machine and for trying things out.

    One process and one SQLite file. Point Prefect at it with `prefect backend server` and
    PREFECT__SERVER__ENDPOINT=http://127.0.0.1:4200. GET /stats counts requests by agent and operation.

    Sockets that systemd passes take the place of --host and --port, or of --socket: local-agent-server.socket keeps the
    port while the server starts again, so that nobody else can take it and nobody is refused.

    Exit codes: 0 when it was stopped; 69 where its port or socket is taken; 74 where its file cannot be used; 77 and 78
    where a key or an option is wrong.
    """
    _check_installed()
    # Only here: the command line must start without them, to say the above.
    from local_agent.server import app
    from local_agent.server.http import activation, peers

    passed = activation.passed()
    _check_not_both(click.get_current_context(), is_tcp=bool(passed.tcp), is_unix=bool(passed.unix))
    if unix_socket is None and not passed.unix and (allow_users or allow_groups):
        raise ConfigError(
            "--allow-user and --allow-group are about a --socket, and there is none",
            hint="add --socket PATH: on TCP the kernel does not tell whose a connection is",
        )
    users = frozenset((0, os.geteuid(), *map(read_user, allow_users)))
    settings = app.Settings(
        data=data or default_data_path(os.environ),
        host=host,
        port=port,
        api_key=read_key(api_key, api_key_file, os.environ),
        insecure=insecure,
        submit_lock=not no_submit_lock,
        allow_hosts=tuple(map(read_host, allow_hosts)),
        allow_origins=tuple(map(read_origin, allow_origins)),
        unix_socket=unix_socket,
        passed=passed,
        allowed=peers.Allowed(users, frozenset(map(read_group, allow_groups))),
    )
    # nobody who asks this API waits for who reads what it says
    with (
        lines_never_block(sys.stdout.fileno(), "the console", _LAST_WORDS_SECONDS) as console,
        complaints_never_block(sys.stderr.fileno(), _LAST_WORDS_SECONDS),
    ):
        app.run(settings, announce=partial(print, file=console), complain=partial(print, file=sys.stderr))
