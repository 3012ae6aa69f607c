"""What is installed: the flags that were given, checked, and sorted into arguments, TOML, variables and the key."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local_agent.settings.example import toml_value
from local_agent.settings.findings import Findings
from local_agent.settings.model import BY_KEY, DEFAULT_INSTANCE, OPTIONS
from local_agent.settings.option import Option
from local_agent.settings.prefect import expand_home
from local_agent.settings.secret import Secret

PACKAGED_PROGRAM = ("/usr/bin/local-agent",)

# They are no lines of a TOML file: they say which file, or they are secret.
_NOT_IN_TOML = frozenset({"instance", "config_dir", "api_key", "api_key_file"})


@dataclass(frozen=True)
class Plan:
    """An agent to install. `flags` holds what was typed, by option key; `program` is how local-agent is called."""

    flags: Mapping[str, object]
    values: Mapping[str, object]
    program: Sequence[str]

    @property
    def instance(self) -> str:
        """The agent's name on this machine."""
        return str(self.values.get("instance", DEFAULT_INSTANCE))

    @property
    def key(self) -> Secret | None:
        """The key that was typed, which is printed nowhere."""
        key = self.values.get("api_key")
        return key if isinstance(key, Secret) else None

    @property
    def has_password(self) -> bool:
        """Whether the API's URL holds a user and a password."""
        return "@" in urlsplit(str(self.values.get("api", ""))).netloc

    @property
    def key_file(self) -> Path | None:
        """The file that was named for the key."""
        return self._path("api_key_file")

    @property
    def config_dir(self) -> Path | None:
        """The folder that was named for the agent's files."""
        return self._path("config_dir")

    def _path(self, key: str) -> Path | None:
        """A path as systemd takes one: absolute, and without `..`."""
        path = self.values.get(key)
        if not isinstance(path, Path):
            return None
        return Path(os.path.abspath(expand_home(str(path), Path.home())))  # noqa: PTH100 - it takes out `..`

    @property
    def env(self) -> Mapping[str, str]:
        """Variables for the flow runs."""
        env = self.values.get("env")
        return env if isinstance(env, Mapping) else {}

    def arguments(self, *, leave_out: Sequence[str] = ()) -> list[str]:
        """The flags again, one word each, without the key's value."""
        return [
            word
            for option in OPTIONS
            if option.key in self.flags and option.key not in ("api_key", *leave_out)
            for word in _words(option, self.flags[option.key])
        ]

    def toml(self) -> list[str]:
        """The lines of the agent's file."""
        given = [option for option in OPTIONS if option.key in self.values and option.key not in _NOT_IN_TOML]
        plain = [option for option in given if "." not in option.key]
        lines = [f"{option.key} = {toml_value(option, self.values[option.key])}" for option in plain]
        limits = [option for option in given if option.key.startswith("limits.")]
        if limits:
            lines += ["", "[limits]"]
        for option in limits:
            lines.append(f"{option.key.removeprefix('limits.')} = {toml_value(option, self.values[option.key])}")
        return lines


def make_plan(flags: Mapping[str, object], program: Sequence[str]) -> Plan:
    """Given the flags of `start`, check them. Raise ConfigError with everything that is wrong."""
    findings = Findings()
    values: dict[str, object] = {}
    for key, given in flags.items():
        option = BY_KEY[key]
        try:
            values[key] = option.kind.parse(given)
        except ValueError as error:
            hint = f"write {option.kind.noun}, for example {option.example or option.kind.example}"
            findings.problem(f"flag {option.flag}", str(error), hint)
    findings.raise_if_any()
    return Plan(flags, values, tuple(program))


def _words(option: Option, given: object) -> list[str]:
    if option.off:
        return [option.flag if given else option.off]
    items = given if isinstance(given, tuple | list) else (given,)
    return [f"{option.flag}={item}" for item in items]
