"""What is wrong with the settings, gathered until all of it is known and then said at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from local_agent.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """Where, what is wrong there, and what to do about it. `fix` is the command that does it, "" where none does."""

    where: str
    what: str
    hint: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Findings:
    """The problems and warnings found so far."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, where: object, what: str, hint: str = "", fix: str = "") -> None:
        """Note a problem; the settings will not be used."""
        found = Problem(str(where), what, hint, fix)
        if found not in self.problems:
            self.problems.append(found)

    def warn(self, sentence: str) -> None:
        """Note something that works and should be changed all the same."""
        self.warnings.append(sentence)

    def raise_if_any(self) -> None:
        """Raise ConfigError if there are problems: one is the message itself, several are listed under it."""
        fixes = tuple(dict.fromkeys(problem.fix for problem in self.problems if problem.fix))
        if len(self.problems) == 1:
            only = self.problems[0]
            raise ConfigError(str(only), hint=only.hint, fixes=fixes)
        if self.problems:
            lines = tuple(f"{problem} ({problem.hint})" if problem.hint else str(problem) for problem in self.problems)
            raise ConfigError(
                f"{len(lines)} settings are wrong",
                hint="`local-agent config` checks the settings and starts nothing",
                problems=lines,
                fixes=fixes,
            )


_USUAL_MISTAKES = {
    "label": "labels", "key": "api_key", "token": "api_key", "api_token": "api_key", "url": "api",
    "environment": "env", "env_vars": "env", "import_path": "import_paths", "path": "import_paths",
    "no_hostname_label": "hostname_label", "no_cloud_logs": "cloud_logs", "tenant": "tenant_id",
    "level": "log_level", "concurrency": "limit", "max_runs": "limit", "address": "agent_address",
}  # fmt: skip


def did_you_mean(wrong: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Given a name that nobody knows and those that are known, return the likeliest, or ""."""
    import difflib  # 3 ms that only a mistake should cost

    candidates = list(known)
    normal = wrong.lower().replace("-", "_")
    usual = _USUAL_MISTAKES.get(normal, normal)
    if usual in candidates:
        return usual
    close = difflib.get_close_matches(normal, candidates, n=1, cutoff=cutoff)
    return close[0] if close else ""
