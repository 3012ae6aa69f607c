"""From flags, environment and files to `Settings`: who is asked first, and what follows from what.

flag > LOCAL_AGENT_* > PREFECT__* > INSTANCE.toml > agent.toml > Prefect's own files > default
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from local_agent.plain import shown_url
from local_agent.settings.credentials import CREDENTIAL_NAME, KeyPlaces, find_key, warn_if_public
from local_agent.settings.findings import Findings
from local_agent.settings.model import (
    BY_KEY,
    DEFAULT_CONFIG_DIR,
    DEFAULT_INSTANCE,
    OPTIONS,
    Settings,
    build,
    defaults,
)
from local_agent.settings.option import Given, Layer, Option, Source, SourceKind
from local_agent.settings.places import file_layer, flags_layer, variables_layer
from local_agent.settings.prefect import PrefectConfig, expand_home, load_auth, load_prefect
from local_agent.settings.prefect3 import DEFAULT_API, variables_of_prefect3

CLOUD_HOST = "api.prefect.io"
_DEFAULT = Source(SourceKind.DEFAULT)


def load_settings(
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config_dir: Path = DEFAULT_CONFIG_DIR,
    hostname: str,
    home: Path | None = None,
) -> Settings:
    """Given what was typed and the environment, return the settings.

    `flags` has an option key for each flag that was given (`cli.options` makes it). `config_dir` holds unless
    --config-dir or LOCAL_AGENT_CONFIG_DIR says otherwise. `home` is found from HOME and the user database if None.
    Raise ConfigError with every problem that was found.
    """
    home = home or _home(environ)
    findings = Findings()
    table = _Table(home, findings)
    flags_given, variables = flags_layer(flags), variables_layer(environ, findings)
    table.settle((flags_given, variables), only=("instance", "config_dir"))
    files, paths = _own_files(table, config_dir, findings)
    prefect = load_prefect(environ, home, findings)
    table.settle((flags_given, variables, *files), only=("protocol",))
    above, below = _layers_of_prefect(table, prefect, environ, (flags_given, variables), files)
    table.settle((flags_given, variables, above, *files, below))
    _settle_api(table, prefect)
    auth = load_auth(prefect, str(table.values["api"]), findings)
    credential = _credential(environ)
    key = find_key(KeyPlaces(flags_given, credential, variables, above, files, below, auth), table.path, findings)
    if key is not None:
        table.values["api_key"], table.sources["api_key"] = key
    table.settle((auth,), only=("tenant_id",))
    _derive(table, environ, home)
    _check(table, environ, findings)
    findings.raise_if_any()
    return build(
        {**table.values, "config_dir": table.values["config_dir"] or config_dir},
        hostname=hostname,
        files=(*paths, *prefect.files),
        sources={option.key: table.sources.get(option.key, _DEFAULT) for option in OPTIONS},
        warnings=tuple(findings.warnings),
    )


@dataclass
class _Table:
    """The values settled so far; what is in `sources` was given by somebody."""

    home: Path
    findings: Findings
    values: dict[str, object] = field(default_factory=defaults)
    sources: dict[str, Source] = field(default_factory=dict)

    def settle(self, layers: Sequence[Layer], *, only: Sequence[str] = ()) -> None:
        """Given layers, the strongest first, parse what they say. All our own is checked, even where it loses."""
        for layer in layers:
            for key, given in layer.items():
                if key == "api_key" or (only and key not in only) or self.sources.get(key) == given.source:
                    continue
                self._take(BY_KEY[key], given)

    def _take(self, option: Option, given: Given) -> None:
        try:
            value = self._expanded(option, option.kind.parse(given.value))
        except ValueError as error:
            hint = f"write {option.kind.noun}, for example {option.example or option.kind.example}"
            self.findings.problem(given.source, str(error), hint)
            return
        if option.key not in self.sources:
            self.values[option.key] = value
            self.sources[option.key] = given.source

    def _expanded(self, option: Option, value: object) -> object:
        if not option.expand_home:
            return value
        if isinstance(value, tuple):
            return tuple(expand_home(str(item), self.home) for item in value)
        return Path(expand_home(str(value), self.home)) if value is not None else None

    def path(self, value: object) -> Path:
        """Given a path as somebody wrote it, return it expanded."""
        return Path(expand_home(str(value), self.home))

    def derive(self, key: str, value: object, why: str) -> None:
        """Set what nobody gave."""
        if key not in self.sources:
            self.values[key] = value
            self.sources[key] = Source(SourceKind.DEFAULT, why)


def _home(environ: Mapping[str, str]) -> Path:
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path("/")


def _own_files(table: _Table, config_dir: Path, findings: Findings) -> tuple[list[Layer], list[Path]]:
    """What INSTANCE.toml and agent.toml say, and which of them are there."""
    folder = Path(str(table.values["config_dir"])) if "config_dir" in table.sources else config_dir
    table.values["config_dir"] = folder
    names = dict.fromkeys((f"{table.values['instance']}.toml", "agent.toml"))
    found = [(folder / name, file_layer(folder / name, findings)) for name in names]
    return [layer for _, layer in found if layer is not None], [path for path, layer in found if layer is not None]


def _layers_of_prefect(
    table: _Table,
    prefect: PrefectConfig,
    environ: Mapping[str, str],
    stronger: Sequence[Layer],
    files: Sequence[Layer],
) -> tuple[Layer, Layer]:
    """What the variables of the Prefect that is asked say, and what its files say; of Prefect 3 these are not read."""
    if table.values["protocol"] == "prefect3":
        return variables_of_prefect3(environ), {}
    return _prefect_layers(table, prefect, stronger, files)


def _prefect_layers(
    table: _Table, prefect: PrefectConfig, stronger: Sequence[Layer], files: Sequence[Layer]
) -> tuple[Layer, Layer]:
    """What Prefect's variables say (above our files), and what its files say (below them)."""
    said = prefect.backend()
    in_variables = said is not None and said.source.kind is SourceKind.VARIABLE
    above: dict[str, Given] = {"backend": said} if said and in_variables else {}
    below: dict[str, Given] = {"backend": said} if said and not in_variables else {}
    table.settle((*stronger, above, *files, below), only=("backend",))
    if "backend" not in table.sources and prefect.says("cloud.endpoint") and not _says_server(prefect):
        table.derive("backend", "cloud", "Prefect's cloud.endpoint is set")
    for option in OPTIONS:
        if not option.prefect_key or option.key == "backend":
            continue
        look_up = prefect.table if option.key == "env" else prefect.resolve
        resolved = look_up(option.prefect_key, backend=str(table.values["backend"]))
        if resolved is not None:
            first = resolved.sources[0]
            layer = above if first.kind is SourceKind.VARIABLE else below
            layer[option.key] = Given(resolved.value, first)
    return above, below


def _says_server(prefect: PrefectConfig) -> bool:
    return prefect.says("server.endpoint", "server.host", "server.port")


def _settle_api(table: _Table, prefect: PrefectConfig) -> None:
    """The API follows from the backend where only that was said, and the other way round."""
    if table.values["protocol"] == "prefect3":
        table.derive("api", DEFAULT_API, "a server on this machine")
    elif "api" in table.sources and "backend" not in table.sources:
        if urlsplit(str(table.values["api"])).hostname == CLOUD_HOST:
            table.derive("backend", "cloud", "the API is Prefect Cloud's")
    elif "api" not in table.sources:
        backend = str(table.values["backend"])
        table.derive("api", prefect.default("cloud.api", backend=backend), f"the backend is {backend}")


def _credential(environ: Mapping[str, str]) -> Path | None:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / CREDENTIAL_NAME if folder else None
    return path if path is not None and path.exists() else None


def _derive(table: _Table, environ: Mapping[str, str], home: Path) -> None:
    """Defaults that depend on the instance and on the environment."""
    instance = str(table.values["instance"])
    if instance != DEFAULT_INSTANCE:
        table.derive("name", instance, "the instance's name")
        table.derive("pool", instance, "the instance's name")
        if "labels" not in table.sources:
            table.derive("labels", (instance,), "the instance's name")
            table.derive("hostname_label", value=False, why="no labels are configured for the instance")
    if given := environ.get("STATE_DIRECTORY"):
        # systemd sets colons between folders, and leaves those in a folder's name as they are
        folder = given if given.endswith(f"/{instance}") else given.split(":")[0]
        table.derive("state_dir", Path(folder), "")
        table.sources["state_dir"] = Source(SourceKind.VARIABLE, "STATE_DIRECTORY")
    state_home = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    table.derive("state_dir", state_home / "local-agent" / instance, "below the state folder of the user")


def _check(table: _Table, environ: Mapping[str, str], findings: Findings) -> None:
    warn_of_strangers(str(table.values["protocol"]), table.sources, findings)
    _check_python(table, environ, findings)
    _check_ceilings(table, findings)
    api = urlsplit(str(table.values["api"]))
    if table.values["api_key"] and api.scheme == "http" and not _is_local(api.hostname or ""):
        findings.warn(f"the API key goes over the network unencrypted: {shown_url(api.geturl())} is not https")
    if table.values["auth_string"]:
        _check_auth_string(table.sources["auth_string"], api, findings)
    if "@" in api.netloc:
        _check_password(table.sources["api"], api, has_key=bool(table.values["api_key"]), findings=findings)


def warn_of_strangers(protocol: str, sources: Mapping[str, Source], findings: Findings) -> None:
    """Given the kind of API and where values came from, warn of each that somebody gave and that another kind has."""
    for option in OPTIONS:
        source = sources.get(option.key)
        if option.only not in ("", protocol) and source is not None and source.kind is not SourceKind.DEFAULT:
            findings.warn(f"{source}: it means nothing where protocol is {protocol}, only where it is {option.only}")


def _check_auth_string(source: Source, api: SplitResult, findings: Findings) -> None:
    if api.scheme == "http" and not _is_local(api.hostname or ""):
        findings.warn(f"the auth string goes over the network unencrypted: {shown_url(api.geturl())} is not https")
    warn_if_public(source.path, findings, "the auth string")


def _check_password(source: Source, api: SplitResult, *, has_key: bool, findings: Findings) -> None:
    if api.scheme == "http" and not _is_local(api.hostname or ""):
        findings.warn(f"the API's password goes over the network unencrypted: {shown_url(api.geturl())} is not https")
    if has_key:
        findings.warn("the API's URL holds a user, which is sent, so the API key is not: there is one such header")
    if source.kind is SourceKind.FLAG:
        findings.warn(
            "--api: other users of this machine can read the password in the list of processes; "
            "use LOCAL_AGENT_API or a file that they cannot read"
        )
    warn_if_public(source.path, findings, "the API's password")


def _is_local(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _check_python(table: _Table, environ: Mapping[str, str], findings: Findings) -> None:
    """A name alone is looked up on PATH; what is found must be a program."""
    given = Path(str(table.values["python"]))
    candidates = [given.absolute()]
    if "python" in table.sources and "/" not in str(given):
        candidates = [Path(folder or ".").absolute() / given for folder in environ.get("PATH", "").split(":")]
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            table.values["python"] = path
            return
    where = table.sources.get("python", "the default of --python")
    inside = given / "bin" / "python"
    if given.is_dir() and inside.exists():
        findings.problem(where, f"{given} is a folder", f"did you mean {inside}?")
    elif given.is_file():
        findings.problem(where, f"{given} is not executable", "name the interpreter, such as /opt/flows/bin/python")
    else:
        hint = "name the interpreter of the virtual environment that has Prefect 1, such as /opt/flows/bin/python"
        findings.problem(where, f"there is no {given}", hint)


def _check_ceilings(table: _Table, findings: Findings) -> None:
    for option in OPTIONS:
        name = option.key.removeprefix("limits.")
        if name == option.key:
            continue
        limit, ceiling = table.values[option.key], table.values[f"ceilings.{name}"]
        if isinstance(limit, int | float) and isinstance(ceiling, int | float):
            too_much = limit < ceiling if name == "nice" else limit > ceiling
            if too_much:
                shown = f"{option.kind.show(limit)}, above the ceiling of {option.kind.show(ceiling)}"
                hint = f"lower it, or raise ceilings.{name}"
                findings.problem(table.sources[option.key], f"the default is {shown}", hint)
