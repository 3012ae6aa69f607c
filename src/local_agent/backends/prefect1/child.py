"""The command and environment with which Prefect 1 runs a flow run, as its own local agent gives them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.backends.prefect1.detail import detail_of
from local_agent.errors import StateError
from local_agent.model import Child
from local_agent.settings.option import VARIABLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.backends.prefect1.access import Access
    from local_agent.model import FlowRun
    from local_agent.settings import Settings

_HEARTBEAT_MODE = "PREFECT__CLOUD__HEARTBEAT_MODE"
_SEND_LOGS = "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"


def child(
    run: FlowRun, settings: Settings, inherited: Mapping[str, str], tenant_id: str, access: Access | None = None
) -> Child:
    """Given a flow run and the agent's own environment, scrubbed, return the command that runs it.

    `access` is where it finds the API, if that is elsewhere than where the agent does.
    Raise StateError where the agent's own folder cannot be used.
    """
    run_config = detail_of(run).run_config
    working_dir = _working_dir(run_config.working_dir)
    env = dict(inherited)
    env["PREFECT__LOGGING__LEVEL"] = settings.flow_log_level
    # by default a thread in the child instead of a second process: 49 MB instead of 91 (prefect 1.4.1)
    env[_HEARTBEAT_MODE] = settings.heartbeat_mode
    env["PYTHONPATH"] = _python_path(working_dir, env.get("PYTHONPATH", ""), settings.import_paths)
    env.update(settings.env)
    env.update({name: text for name, text in run_config.env.items() if text is not None})
    for name in [name for name, text in run_config.env.items() if text is None]:
        env.pop(name, None)  # null takes a variable away, as with Prefect's own agent
    if not settings.cloud_logs:
        env[_SEND_LOGS] = "false"
    env.setdefault(_SEND_LOGS, "true")
    env.update(_forced(run, settings, tenant_id, access))
    argv = (str(settings.python), "-m", "prefect", "execute", "flow-run")
    asked = {name: text or "" for name, text in run_config.env.items() if name.startswith(VARIABLE_PREFIX)}
    return Child(argv, env, working_dir, asked, sends_heartbeat=env.get(_HEARTBEAT_MODE) != "off")


def _forced(run: FlowRun, settings: Settings, tenant_id: str, access: Access | None) -> dict[str, str]:
    own_key = settings.api_key.reveal() if settings.api_key else ""
    api, key = (access.url, access.api_key) if access else (settings.api, own_key)
    with_key = {"PREFECT__CLOUD__API_KEY": key, "PREFECT__CLOUD__TENANT_ID": tenant_id} if key else {}
    return {
        "PREFECT__BACKEND": settings.backend,
        "PREFECT__CLOUD__API": api,
        **{name: text for name, text in with_key.items() if text},
        "PREFECT__CLOUD__AGENT__LABELS": str(list(settings.effective_labels)),
        "PREFECT__CONTEXT__FLOW_RUN_ID": run.id,
        "PREFECT__CONTEXT__FLOW_ID": detail_of(run).flow_id,
        "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
        "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
    }


def _working_dir(wanted: str | None) -> Path:
    """Return where a flow run is to run. Whether it can, its launcher sees: it may run on another machine."""
    if wanted is None or not os.path.isabs(wanted):  # noqa: PTH117 - as it was given
        return _own_folder() / (wanted or "")
    return Path(wanted)


def _own_folder() -> Path:
    try:
        folder = Path.cwd()
        os.stat(f"{folder}/.")  # noqa: PTH116 - pathlib drops the point, and with it the question: may it be entered?
    except OSError as error:
        reason = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be entered: {error.strerror}"
        raise StateError(
            f"the folder that this agent was started in {reason}", hint="start the agent in a folder that stays"
        ) from error
    return folder


def _python_path(working_dir: Path, inherited: str, import_paths: tuple[str, ...]) -> str:
    parts = [str(working_dir), inherited, *import_paths]
    return os.pathsep.join(part for part in parts if part)
