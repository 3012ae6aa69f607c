"""Every failure that local-agent expects, as one tree.

    LocalAgentError
    ├── ConfigError           78  a setting is wrong; nothing was started
    ├── CredentialError       77  the API does not accept the key, or the key cannot be read
    ├── UnavailableError      69  something outside does not answer now and may later
    │   ├── ApiUnreachableError     no answer, or an answer that is not the API's
    │   │   └── NotUnderstoodError    an answer that is not what was asked for
    │   ├── LauncherUnavailableError  what starts flow runs does not answer, or refuses one
    │   │   └── ManagerUnreachableError systemd's bus or the broker does not answer, or refuses a scope
    │   │   └── NoAnswerError         it is not there for a moment
    │   └── ExhaustedError          this machine is at a limit: processes, descriptors, memory, disk
    ├── ApiRefusedError       70  the API understood the request and said no
    │   └── TooLargeError         the request was larger than the API, or a proxy before it, takes
    ├── AgentRefusedError     its own: a running agent cannot do what it was asked on its control socket
    ├── NotFoundError         66  the name given matches nothing on this host, or more than one thing
    ├── LaunchError           71  a flow run's own settings keep it from being started: it will fail everywhere
    └── StateError            74  the state folder cannot be read or written

Each carries a message (what failed, on what), a hint (what to do) and the exit code of sysexits.h(3head) with
which the command line ends. Anything else that reaches the command line is a bug of ours and prints a traceback.

`is_lasting` is the one place that tells the kernel's lasting errors from its passing ones.
"""

from __future__ import annotations

import errno

# errno(3): what was asked for is wrong, and the same request meets the same error the next time
_LASTING = frozenset(
    {
        errno.E2BIG,
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELIBACC,
        errno.ELIBBAD,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOEXEC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def is_lasting(number: int | None) -> bool:
    """Tell whether an errno says that the request itself is wrong.

    Every other one, unknown ones too, may pass: a limit that is reached (EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSPC,
    EDQUOT), an interrupted call, a file server that does not answer (EIO, ESTALE). To give a flow run back once too
    often costs half a minute; to fail it for this machine's fault costs the flow run.
    """
    return number in _LASTING


class LocalAgentError(Exception):
    """What failed and on what, in one sentence; `hint` says what to do about it."""

    exit_code: int = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class AgentRefusedError(LocalAgentError):
    """A running agent that was asked to do something could not; `exit_code` is that of its own error."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = 70) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class ConfigError(LocalAgentError):
    """A setting is wrong. `problems` holds every one found, when there are several; `fixes` are commands for some."""

    exit_code = 78

    def __init__(
        self, message: str, *, hint: str = "", problems: tuple[str, ...] = (), fixes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems
        self.fixes = fixes


class CredentialError(LocalAgentError):
    """The API does not accept the key, or the key cannot be read."""

    exit_code = 77


class UnavailableError(LocalAgentError):
    """Something outside does not answer now; the same request may work later."""

    exit_code = 69


class ApiUnreachableError(UnavailableError):
    """No answer from the API, or one that cannot be its own. What was asked may have been done all the same."""


class NotUnderstoodError(ApiUnreachableError):
    """An answer came, and it is not what was asked for. Asked for less, the API may give one that is."""


class LauncherUnavailableError(UnavailableError):
    """What starts and ends flow runs does not answer, or refuses. What was asked may have been done all the same.

    That is not the flow run's fault: a run that was to start goes back to the queue.
    """


class ManagerUnreachableError(LauncherUnavailableError):
    """systemd's manager or the broker does not answer, or refuses. What was asked may have been done all the same."""


class NoAnswerError(ManagerUnreachableError):
    """systemd was not there to answer. It soon may be: asked again at once."""


class ExhaustedError(UnavailableError):
    """This machine cannot give now what a flow run takes, and may later. A run that was to start is given back."""


class ApiRefusedError(LocalAgentError):
    """The API understood the request and said no; `code` is its `extensions.code`, where it gave one."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class TooLargeError(ApiRefusedError):
    """The request was larger than the API, or a proxy before it, takes (HTTP 413). Nothing of it was done."""


class NotFoundError(LocalAgentError):
    """The name given matches nothing on this host, or more than one thing."""

    exit_code = 66


class LaunchError(LocalAgentError):
    """A flow run's own settings keep it from being started: its folder, its environment."""

    exit_code = 71


def not_started(message: str, error: OSError, *, hint: str = "") -> LaunchError | ExhaustedError:
    """Return what to raise for an error that what a flow run asks for has met: its fault, or this machine's."""
    kind = LaunchError if is_lasting(error.errno) else ExhaustedError
    return kind(f"{message}: {error.strerror or error}", hint=hint)


class StateError(LocalAgentError):
    """The state folder cannot be read or written."""

    exit_code = 74
