"""Lines of flow runs as a person and as a script gets them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from local_agent.host.log.timeline import Source
from local_agent.host.table import Colour, printable

if TYPE_CHECKING:
    from local_agent.host.log.timeline import Line
    from local_agent.host.table import Terminal

_STEERING = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_SOURCE_WIDTH = 7
_WARNING, _NOTICE, _DEBUG = 4, 5, 7


def shown(line: Line, terminal: Terminal, names: dict[str, str] | None = None) -> str:
    """Return a line for a person; with `names`, where lines of several runs mix, it says whose it is."""
    at = line.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    source = terminal.coloured(line.source.value, _source_colour(line)) + " " * (_SOURCE_WIDTH - len(line.source.value))
    head = f"{terminal.coloured(at, Colour.FAINT)} {source} "
    width = len(at) + _SOURCE_WIDTH + 2
    if names is not None:
        name = printable(names.get(line.flow_run_id) or line.flow_run_id[:8])
        head, width = f"{head}{terminal.coloured(name, Colour.BOLD)} ", width + len(name) + 1
    texts = [_printable(text) for text in _STEERING.sub("", line.text).splitlines()] or [""]
    coloured = [terminal.coloured(text, _text_colour(line.priority)) for text in texts]
    return head + ("\n" + " " * width).join(coloured)


def _printable(text: str) -> str:
    """A tab steers nothing, and some programs write tables with them."""
    return "\t".join(map(printable, text.split("\t")))


def as_json(line: Line) -> dict[str, Any]:
    """Return a line for a script; docs/commands/json.md says what each key means."""
    return {
        "at": line.at.isoformat(timespec="microseconds"),
        "source": line.source.value,
        "priority": line.priority,
        "flow_run_id": line.flow_run_id,
        "text": line.text,
    }


def _source_colour(line: Line) -> Colour:
    return {Source.AGENT: Colour.AGENT, Source.SYSTEMD: Colour.DOUBTFUL}.get(line.source, Colour.PLAIN)


def _text_colour(priority: int) -> Colour:
    if priority < _WARNING:
        return Colour.BAD
    if priority == _WARNING:
        return Colour.DOUBTFUL
    if priority == _NOTICE:
        return Colour.BOLD
    return Colour.FAINT if priority >= _DEBUG else Colour.PLAIN
