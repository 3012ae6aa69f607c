"""Where the API key comes from: the places from the safest to the least safe within each rank of precedence.

--key, --api-key-file                     somebody typed it
$CREDENTIALS_DIRECTORY/api-key            systemd's LoadCredential= or LoadCredentialEncrypted=
LOCAL_AGENT_API_KEY, PREFECT__CLOUD__API_KEY, LOCAL_AGENT_API_KEY_FILE
INSTANCE.toml, then agent.toml            api_key_file, then api_key
Prefect's config.toml                     cloud.api_key
Prefect's auth.toml                       what `prefect auth login` left for this API
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_agent.settings import kinds
from local_agent.settings.access import closed_to_others, is_readable_by_all, opened_to_this_user
from local_agent.settings.findings import Findings
from local_agent.settings.option import Given, Layer, Source, SourceKind
from local_agent.settings.secret import Secret

CREDENTIAL_NAME = "api-key"
_MAX_BYTES = 64 * 1024
_PIPE_SECONDS = 5.0


@dataclass(frozen=True)
class KeyPlaces:
    """The layers that can hold a key, the strongest first."""

    flags: Layer
    credential: Path | None
    variables: Layer
    prefect_variables: Layer
    files: Sequence[Layer]
    prefect_files: Layer
    auth: Mapping[str, Given]


def find_key(
    places: KeyPlaces, expand_path: Callable[[object], Path], findings: Findings
) -> tuple[Secret, Source] | None:
    """Given the layers, return the first key and where it is, or None. A key that cannot be used is noted."""
    for given, is_file in _candidates(places):
        found = _from_file(given, expand_path, findings) if is_file else _literal_key(given, findings)
        if found is not None:
            return found
        if findings.problems:
            return None
    return None


def _candidates(places: KeyPlaces) -> Iterator[tuple[Given, bool]]:
    yield from _of(places.flags, "api_key", "api_key_file")
    if places.credential is not None:
        yield Given(str(places.credential), Source(SourceKind.CREDENTIAL, CREDENTIAL_NAME)), True
    yield from _of(places.variables, "api_key")
    yield from _of(places.prefect_variables, "api_key")
    yield from _of(places.variables, "api_key_file")
    for layer in places.files:
        yield from _of(layer, "api_key_file", "api_key")
    yield from _of(places.prefect_files, "api_key")
    yield from _of(places.auth, "api_key")


def _of(layer: Layer, *names: str) -> Iterator[tuple[Given, bool]]:
    for name in names:
        if name in layer:
            yield layer[name], name == "api_key_file"


def _literal_key(given: Given, findings: Findings) -> tuple[Secret, Source] | None:
    try:
        key = kinds.optional(kinds.SECRET).parse(given.value)
    except ValueError as error:
        findings.problem(given.source, f"the API key cannot be used: {error}", "write the key and nothing else")
        return None
    if key is None:
        return None
    if given.source.kind is SourceKind.FLAG:
        findings.warn(
            "--key: other users of this machine can read the key in the list of processes; "
            "use a systemd credential, --api-key-file or LOCAL_AGENT_API_KEY"
        )
    warn_if_public(given.source.path, findings)
    return key, given.source


def _from_file(given: Given, expand_path: Callable[[object], Path], findings: Findings) -> tuple[Secret, Source] | None:
    try:
        path = expand_path(given.value)
        key = kinds.SECRET.parse(_read(path).decode())
    except UnicodeDecodeError:
        findings.problem(given.source, f"{path} does not hold an API key: it is not a text")
    except ValueError as error:
        findings.problem(given.source, f"{given.value} does not hold an API key: {error}")
    except OSError as error:
        what = f"{given.value} cannot be read: {error.strerror}"
        fix = opened_to_this_user(path) if isinstance(error, PermissionError) else ""
        findings.problem(given.source, what, fix or "write the key into it, readable for the agent's user only", fix)
    else:
        if given.source.kind is not SourceKind.CREDENTIAL:
            warn_if_public(path, findings)
        return key, Source(given.source.kind, given.source.name, path)
    return None


def _read(path: Path) -> bytes:
    """Return what a key file holds: a regular file, or a pipe that has a writer, as <(command) makes one.

    Whoever may write the settings names it, and whoever asks an agent reads them: nobody is kept waiting by a pipe that
    is not written to, and nothing endless is read. Raise OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "it is neither a file nor a pipe")
        return _read_bounded(descriptor, time.monotonic() + _PIPE_SECONDS)
    finally:
        os.close(descriptor)


def _read_bounded(descriptor: int, until: float) -> bytes:
    text = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(text) <= _MAX_BYTES:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise OSError(errno.ETIMEDOUT, "nothing is written to it")
        chunk = os.read(descriptor, _MAX_BYTES)
        if not chunk:
            return text
        text += chunk
    raise OSError(errno.EFBIG, f"it has more than {_MAX_BYTES} bytes")


def warn_if_public(path: Path | None, findings: Findings, what: str = "the API key") -> None:
    """What every user can read is no secret; it is used all the same, as it always was."""
    if path is None:
        return
    try:
        status = path.stat()
    except OSError:
        return
    if is_readable_by_all(status):
        findings.warn(f"{path}: holds {what} and is readable by every user; {closed_to_others(path, status)}")
