"""The terminal sessions in docs/commands: what is typed, and what of the answers may differ from time to time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from support.commands_docs import DOCS, help_of
from system.host.conftest import Host

WIDTH = 120  # wide enough for a whole table, whatever the figures in it

_SESSION = re.compile(r"^```console\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_HELP = re.compile(r"^```text\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHORT_ID = re.compile(r"\b[0-9a-f]{8}\b")
_FIGURE = re.compile(r"(?<![\w-])\d[\d.:]*(?:[a-zA-Z]\w*)?|(?<=\s)-(?=\s|$)")
# of the machine that the tests run on, and of the release of systemd
_OF_THIS_MACHINE = re.compile(r"\w+ +(cgroups|pressure|disk|systemd) | {9}fix: cgroup_|.{19} systemd ")
_PORT = re.compile(r"127\.0\.0\.1:\d+")
_PRESSURE = re.compile(r"pressure: .*")  # not measured everywhere
_BARS = re.compile(r"[▁▂▃▄▅▆▇█]+")
_COST = re.compile(r"; used [^;]*")

_NAMES = {_COST: "", _PRESSURE: "", _BARS: "", _TIME: "TIME", _UUID: "UUID", _SHORT_ID: "ID", _FIGURE: "N"}


@dataclass(frozen=True)
class Step:
    """A line typed, by whom, and what must be so before it."""

    line: str
    user: str = "root"
    ready: Callable[[], object] = lambda: None
    width: int | None = WIDTH
    program: str = "local-agent"

    @property
    def prompt(self) -> str:
        """The line as a reader sees it."""
        return f"{'#' if self.user == 'root' else '$'} {self.program} {self.line}"


def typed(host: Host, steps: list[Step]) -> str:
    """Type the lines, and return the session as a terminal shows it; an exit code that is not 0 is told."""
    return "\n".join(_typed(host, step) for step in steps)


def _typed(host: Host, step: Step) -> str:
    step.ready()
    width = f"COLUMNS={step.width} " if step.width else ""
    shell = f"exec 2>&1; {width}{step.program} {step.line}"
    done = host.machine.run(["sh", "-c", shell], user=step.user, check=False)
    told = [f"[exit code {done.returncode}]"] if done.returncode else []
    return "\n".join([step.prompt, *(line.rstrip() for line in done.stdout.splitlines()), *told, ""])


def page(name: str, session: str) -> str:
    """Return a page of docs/commands with a session, and the command's help, as they are now."""
    text = (DOCS / f"{name}.md").read_text()
    text = _SESSION.sub(lambda _: f"```console\n{session}```\n", text)
    return _HELP.sub(lambda _: f"```text\n{help_of(name)}```\n", text)


def recorded(name: str) -> str:
    """Return the session on a page."""
    match = _SESSION.search((DOCS / f"{name}.md").read_text())
    assert match, f"docs/commands/{name}.md has no session"
    return match.group(1)


def comparable(session: str) -> list[str]:
    """Return a session's lines without what differs from time to time: ids, figures, widths of columns."""
    return list(_comparable(session.splitlines()))


def _comparable(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith(("[exit code", "# ", "$ ")):
            yield _PORT.sub("PORT", line)
        elif line and not _OF_THIS_MACHINE.match(line):
            text = line
            for pattern, name in _NAMES.items():
                text = pattern.sub(name, text)
            yield " ".join(text.split())
