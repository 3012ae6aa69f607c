"""Names of units: a flow run's scope, an instance's slice and service.

Only slices nest by their dashes, so only there the instance is escaped (systemd.slice(5), systemd-escape(1)).
"""

from __future__ import annotations

import re
import string
import uuid

MAX_DESCRIPTION = 200
_PLAIN = frozenset(string.ascii_letters + string.digits + ":_.")
# what systemd and the shell find them by
SCOPES = "flow-run-*.scope"
SERVICES = "local-agent@*.service"
_INSTANCE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_SERVICE = re.compile(r"local-agent@(?P<instance>.+)\.service")
_SLICE = re.compile(r"flowruns-(?P<instance>.+)\.slice")
_FLOW_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# of a very long name only the beginning is there
_DESCRIPTION = re.compile(r"Flow run (?P<name>.*?)(?: of (?P<flow>.*))?", re.DOTALL)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
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


def instance_of(slice_name: str) -> str:
    """Return the instance whose flow runs a slice holds, "" where it is no such slice."""
    found = _SLICE.fullmatch(slice_name)
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), found["instance"]) if found else ""


def is_instance(name: str) -> bool:
    """Tell whether an instance can have this name."""
    return _INSTANCE.fullmatch(name) is not None


def instance_served_by(unit: str) -> str:
    """Return what the instance of a service is called, "" where the unit is no such service.

    An admin may start a service of any name: `is_instance` tells whether an agent can have it.
    """
    found = _SERVICE.fullmatch(unit)
    return found["instance"] if found else ""


def is_flow_run_id(text: str) -> bool:
    """Tell whether a text has the form of a flow run's id: a UUID, in lower case."""
    return _FLOW_RUN.fullmatch(text) is not None


def flow_run_in(unit: str) -> str:
    """Return the flow run whose scope a unit is, "" where it is none's."""
    found = flow_run_of(unit)
    return found if unit == scope_of(found) and is_flow_run_id(found) and not is_nobodys(found) else ""


def service_of(instance: str) -> str:
    """Return the service of an instance."""
    return f"local-agent@{instance}.service"


def instance_in(cgroup: str) -> str | None:
    """Given a process's cgroup, return the instance whose service it is in; None where it is in none.

    As systemd reads it: slices, then the unit. Any user can have a local-agent@x.service in a manager of their own,
    but below user@1000.service, which is then the first name that is no slice.
    """
    names = cgroup.removeprefix("/").split("/")
    while names and names[0].endswith(".slice"):
        names.pop(0)
    instance = instance_served_by(names[0]) if len(names) == 1 else ""
    return instance if is_instance(instance) else None


def is_in(cgroup: str, unit: str) -> bool:
    """Tell whether a cgroup is a unit's or below it."""
    return unit in cgroup.split("/")


def described(name: str, flow_name: str) -> str:
    """Return the description of a flow run's scope, from which `names_in` reads them: who may not read the agent's
    records has no other place to learn them from.
    """
    return f"Flow run {name} of {flow_name}"


def names_in(description: str) -> tuple[str, str]:
    """Given a scope's description, return the flow run's name and its flow's, "" for what it does not have."""
    found = _DESCRIPTION.fullmatch(description)
    return (found["name"], found["flow"] or "") if found else ("", "")


def description_of(text: str) -> str:
    """Return a text as a unit's description may be: anybody who may register a flow chooses its name.

    One line, as systemd writes it into a file; there a backslash at its end would make the next line more of it.
    Without the name of a service: needrestart takes the first such word in a description for one.
    """
    printable = "".join(char if char.isprintable() else "?" for char in text)[:MAX_DESCRIPTION]
    plain = printable.replace(".service", "_service")
    return f"{plain[:-1]}/" if plain.endswith("\\") else plain


def escaped(text: str) -> str:
    """Escape a text as one component of a unit's name."""
    return "".join(
        char if char in _PLAIN and not (char == "." and index == 0) else _hex(char) for index, char in enumerate(text)
    )


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
