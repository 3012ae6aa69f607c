"""Names of units: a flow run's scope, an instance's slice and service.

Only slices nest by their dashes, so only there the instance is escaped (systemd.slice(5), systemd-escape(1)).
"""

from __future__ import annotations

import string
import uuid

_MOST_DESCRIPTION = 200
_PLAIN = frozenset(string.ascii_letters + string.digits + ":_.")
# "nobody" in hexadecimal digits, and a version that no UUID has (RFC 9562, section 4.2): no API makes such an id
_NOBODYS = "6e6f626f-6479-0000-"


def scope_of(flow_run_id: str) -> str:
    """Return the scope of a flow run."""
    return f"flow-run-{flow_run_id}.scope"


def flow_run_of(scope: str) -> str:
    """Return the flow run of a scope."""
    return scope.removeprefix("flow-run-").removesuffix(".scope")


def new_id_of_nobody() -> str:
    """Return an id for a scope of the agent's own needs. Only the form of its name is a flow run's."""
    return _NOBODYS + str(uuid.uuid4())[len(_NOBODYS) :]


def is_nobodys(flow_run_id: str) -> bool:
    """Tell whether an id is one of those: no tool shows its scope as a flow run."""
    return flow_run_id.startswith(_NOBODYS)


def identifier_of(flow_run_id: str) -> str:
    """Return the syslog identifier under which a flow run's output lies in the journal."""
    return f"flow-run-{flow_run_id}"


def slice_of(instance: str) -> str:
    """Return the slice that holds an instance's flow runs."""
    return f"flowruns-{escaped(instance)}.slice"


def service_of(instance: str) -> str:
    """Return the service of an instance."""
    return f"local-agent@{instance}.service"


def description_of(text: str) -> str:
    """Return a text as a unit's description may be: anybody who may register a flow chooses its name.

    One line, as systemd writes it into a file; there a backslash at its end would make the next line more of it.
    Without the name of a service: needrestart takes the first such word in a description for one.
    """
    printable = "".join(char if char.isprintable() else "?" for char in text)[:_MOST_DESCRIPTION]
    plain = printable.replace(".service", "_service")
    return f"{plain[:-1]}/" if plain.endswith("\\") else plain


def escaped(text: str) -> str:
    """Escape a text as one component of a unit's name."""
    return "".join(
        char if char in _PLAIN and not (char == "." and index == 0) else _hex(char) for index, char in enumerate(text)
    )


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
