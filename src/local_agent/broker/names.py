"""Names of units, worked out from what the kernel says about a caller and never from what the caller says.

The agent has the same rules in its own words (a test holds them together): the broker imports nothing of it.
"""

from __future__ import annotations

import re

_SERVICE = re.compile(r"local-agent@(?P<instance>[A-Za-z0-9_.:-]{1,64})\.service")
_SLICE = re.compile(r"flowruns-(?P<instance>(?:[A-Za-z0-9:_.]|\\x[0-9a-f]{2})+)\.slice")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_TO_ESCAPE = re.compile(r"^\.|[^A-Za-z0-9:_.]")


def scope_of(flow_run: str) -> str:
    """Return the scope of a flow run."""
    return f"flow-run-{flow_run}.scope"


def identifier_of(flow_run: str) -> str:
    """Return the syslog identifier of a flow run's output."""
    return f"flow-run-{flow_run}"


def slice_of(instance: str) -> str:
    """Return the slice that holds an instance's flow runs."""
    return f"flowruns-{_TO_ESCAPE.sub(lambda match: f'{chr(92)}x{ord(match[0]):02x}', instance)}.slice"


def instance_of(slice_name: str) -> str:
    """Return the instance whose flow runs a slice holds, "" where it is no such slice."""
    found = _SLICE.fullmatch(slice_name)
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), found["instance"]) if found else ""


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
    found = _SERVICE.fullmatch(names[0]) if len(names) == 1 else None
    return found["instance"] if found else None


def is_in(cgroup: str, unit: str) -> bool:
    """Tell whether a cgroup is a unit's or below it."""
    return unit in cgroup.split("/")
