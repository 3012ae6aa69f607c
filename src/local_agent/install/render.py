"""From a plan to files: Jinja renders the templates, quoting is its filters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from local_agent import __version__
from local_agent.install import quoting
from local_agent.install.files import File
from local_agent.install.plan import PACKAGED_PROGRAM, Plan
from local_agent.settings.model import DEFAULT_INSTANCE

_TEMPLATES = Path(__file__).parents[1] / "templates"
_FILTERS: dict[str, Callable[..., str]] = {
    "systemd_command": quoting.systemd_command,
    "systemd_credential": quoting.systemd_credential,
    "supervisor_command": quoting.supervisor_command,
    "supervisor_environment": quoting.supervisor_environment,
}
SYSTEM_CONFIG = Path("/etc/local-agent")
SYSTEM_UNITS = Path("/etc/systemd/system")
AGENT_GROUP = "local-agent"


def supervisord_files(plan: Plan, folder: Path) -> list[File]:
    """Given a plan and where its files will lie, return the supervisord.conf, and the key's file if a key was typed.

    Variables for flow runs go through one variable of the agent: a command line is open to every user.
    """
    name = "local-agent" if plan.instance == DEFAULT_INSTANCE else f"local-agent-{plan.instance}"
    key_path = folder / f"{name}.key"
    hidden = ("env", *(("api",) if plan.has_password else ()))
    arguments = plan.arguments(leave_out=(*hidden, "api_key_file") if plan.key else hidden)
    if plan.key:
        arguments.append(f"--api-key-file={key_path}")
    variables = {"LOCAL_AGENT_ENV": quoting.json_without("%;#'", dict(plan.env))} if plan.env else {}
    if plan.has_password:
        variables["LOCAL_AGENT_API"] = str(plan.values["api"])
    text = _render(
        "supervisord.conf.j2",
        program_name=name.replace(":", "_"),  # supervisord has its own use for a colon
        command=[*plan.program, "start", *arguments],
        environment=variables,
    )
    return [File(folder / "supervisord.conf", text, 0o600 if variables else 0o644), *_key_files(plan, key_path)]


def system_files(plan: Plan) -> list[File]:
    """Given a plan, return the files of an instance of the packaged unit: settings, key, drop-in if one is needed."""
    config_dir = plan.config_dir or SYSTEM_CONFIG
    key_path = config_dir / f"{plan.instance}.key"
    credential = key_path if plan.key else plan.key_file
    files = [_settings(plan, config_dir, group=AGENT_GROUP), *_key_files(plan, key_path)]
    program = None if tuple(plan.program) == PACKAGED_PROGRAM else plan.program
    if credential or program or plan.config_dir:
        text = _render(
            "systemd-drop-in.conf.j2",
            unit=f"local-agent@{plan.instance}.service",
            credential=credential and str(credential),
            config_dir=plan.config_dir and str(plan.config_dir),
            program=program,
        )
        files.append(File(SYSTEM_UNITS / f"local-agent@{plan.instance}.service.d" / "install.conf", text))
    return files


def user_files(plan: Plan, config_home: Path) -> list[File]:
    """Given a plan and the user's configuration folder, return a unit of its own, settings and the key's file."""
    config_dir = plan.config_dir or config_home / "local-agent"
    key_path = config_dir / f"{plan.instance}.key"
    credential = key_path if plan.key else plan.key_file
    text = _render(
        "systemd-user.service.j2",
        instance=plan.instance,
        program=plan.program,
        config_dir=str(config_dir),
        credential=credential and str(credential),
    )
    unit = File(config_home / "systemd/user" / f"local-agent@{plan.instance}.service", text)
    return [unit, _settings(plan, config_dir), *_key_files(plan, key_path)]


def _settings(plan: Plan, config_dir: Path, *, group: str = "") -> File:
    """Variables for flow runs often hold passwords: then only the owner and its group read the file."""
    text = _render("instance.toml.j2", instance=plan.instance, lines=plan.toml())
    path = config_dir / f"{plan.instance}.toml"
    return File(path, text, 0o640, group=group) if plan.env or plan.has_password else File(path, text)


def _key_files(plan: Plan, path: Path) -> list[File]:
    return [File(path, plan.key.reveal() + "\n", 0o600, is_secret=True)] if plan.key else []


def _render(template: str, **values: Any) -> str:  # noqa: ANN401 - what templates take
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML: the filters quote
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    environment.globals["assignment"] = quoting.systemd_assignment
    environment.globals["version"] = __version__
    return environment.get_template(template).render(**values)
