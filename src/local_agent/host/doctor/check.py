"""What `local-agent doctor` looks at: each check returns what it found, the evidence, and what fixes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"  # it works, with something missing or doubtful
    FAILURE = "failure"  # flow runs do not run, or their ends are lost


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: `about` is an instance's name, "" for the machine; `fix` is a command, or what to do."""

    check: str
    verdict: Verdict
    evidence: str
    fix: str = ""
    about: str = ""


def ok(check: str, evidence: str, about: str = "") -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, evidence, "", about)


def warning(check: str, evidence: str, fix: str, about: str = "") -> Finding:
    """It works, and something is missing or doubtful."""
    return Finding(check, Verdict.WARNING, evidence, fix, about)


def failure(check: str, evidence: str, fix: str, about: str = "") -> Finding:
    """It does not work."""
    return Finding(check, Verdict.FAILURE, evidence, fix, about)
