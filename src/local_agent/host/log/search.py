"""`local-agent logs`: from what a person asked for to the lines of the journal."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from local_agent.host.log.timeline import Source, groups_of, groups_of_all, lines, of_instance

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from local_agent.host.log.timeline import Line
    from local_agent.host.reading.journal import Group
    from local_agent.host.view import Host

_FLOW_FIELDS = ("SYSLOG_IDENTIFIER=", "_SYSTEMD_UNIT=", "_SYSTEMD_USER_UNIT=")
_AGENT_FIELDS = ("FLOW_RUN_ID=", "UNIT=", "USER_UNIT=")


@dataclass(frozen=True, slots=True)
class LogsWanted:
    """What a person asked for: one flow run, or with `run` None all of them, perhaps of one instance."""

    run: str | None = None
    instance: str | None = None
    follow: bool = False
    most: int | None = None
    since: str | None = None
    until: str | None = None
    agent_only: bool = False
    flow_only: bool = False

    def options(self) -> list[str]:
        """Return them as journalctl takes them."""
        given = {"since": self.since, "until": self.until}
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        options += ["--follow"] if self.follow else []
        options += ["--boot"] if self.run is None and self.since is None else []
        return [*options, f"--lines={'all' if self.most is None else self.most}"]

    def takes(self, source: Source) -> bool:
        """Tell whether lines of this source are wanted."""
        return not (self.agent_only and source is Source.FLOW) and not (self.flow_only and source is not Source.FLOW)

    def narrowed(self, groups: Iterable[Group]) -> list[Group]:
        """Leave out what can only bring unwanted lines, so that --lines counts those that are wanted."""
        unwanted = _AGENT_FIELDS if self.flow_only else _FLOW_FIELDS if self.agent_only else ()
        return [group for group in groups if not group[0].startswith(unwanted)]


def find_lines(host: Host, wanted: LogsWanted) -> Generator[Line, None, None]:
    """Return the lines. Raise NotFoundError where no flow run is meant, UnavailableError without a journal."""
    with contextlib.closing(
        _of_all(host, wanted) if wanted.run is None else _of_one(host, wanted, wanted.run)
    ) as found:
        for line in found:
            if wanted.takes(line.source):
                yield line


def _of_one(host: Host, wanted: LogsWanted, word: str) -> Generator[Line, None, None]:
    began = host.now()
    run = host.find(word, in_past=True)
    if run.state == "ended":
        wanted = replace(wanted, follow=False)  # nothing comes any more
    groups = wanted.narrowed(groups_of(run.id, host.uids_of(run.instance)))
    for line in lines(host.journal, groups, wanted.options()):
        if line.flow_run_id != run.id:
            continue  # what journald has thrown away of others
        yield line
        if wanted.follow and line.is_end and line.at >= began:
            return


def _of_all(host: Host, wanted: LogsWanted) -> Generator[Line, None, None]:
    found = lines(host.journal, groups_of_all(host.agent_uids(wanted.instance)), wanted.options())
    if wanted.instance is None:
        yield from found
        return
    if folder := next((one for one in host.folders if one.instance == wanted.instance and one.is_anybodys), None):
        yield from (line for line in found if line.instance in ("", folder.name))
        return
    past = host.past

    def look_up(flow_run_id: str) -> str:
        return next((run.instance for run in past.search(flow_run_id)), "")

    yield from of_instance(found, wanted.instance, look_up)
