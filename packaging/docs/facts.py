"""What all manual pages say alike: version, date, the commands and each other."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from local_agent import __version__
from local_agent.cli.main import _COMMANDS
from roff import Page


@dataclass(frozen=True)
class Facts:
    """What all pages say alike."""

    date: str
    version: str
    summaries: dict[str, str]
    other_pages: list[tuple[str, int]]

    def page(self, name: str, section: int, what: str) -> Page:
        """Return a new page."""
        return Page(name, section, what, self.date, self.version)


def facts() -> Facts:
    """Return this version's; the date is SOURCE_DATE_EPOCH's where it is set, so that two builds are the same."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "") or time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    others = [("local-agent.toml", 5), ("local-agent-journal", 7), ("local-agent@.service", 8)]
    return Facts(date, __version__, dict(_COMMANDS), others)
