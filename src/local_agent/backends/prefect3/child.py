"""The command and environment with which Prefect 3's engine runs a flow run, as its own process worker gives them."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from local_agent.backends.environment import scrubbed
from local_agent.backends.fields import WrongFieldError, get_object, get_str
from local_agent.backends.prefect3.answers import is_missing, not_understood
from local_agent.backends.prefect3.detail import detail_of
from local_agent.backends.prefect3.job import LIMITS, Asked, Job, job_of
from local_agent.backends.prefect3.parse import due_run
from local_agent.backends.prefect3.references import ApiReferences
from local_agent.errors import ApiRefusedError, LaunchError, StateError
from local_agent.model import Child
from local_agent.settings.model import LIMIT_OPTIONS
from local_agent.settings.option import VARIABLE_PREFIX, Option, SourceKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_agent.backends.prefect3.access import Access
    from local_agent.backends.prefect3.references import Reads
    from local_agent.model import FlowRun
    from local_agent.settings import Settings

BOOT = Path(__file__).with_name("boot.py")
HOOKS = BOOT.with_name("hooks.py")
# what one engine is told about its flow run is nothing to another
_OF_A_RUN = "PREFECT__"
_CRASHED = "CRASHED"
_RUNNER = "prefect flow-run execute"  # it learns from the API that the run is cancelled
_NO_LEVEL = "NOTSET"  # Prefect 3 knows no such level
_OPTIONS: Mapping[str, Option] = {option.key: option for option in LIMIT_OPTIONS.values()}
_ASKED_AS: Mapping[str, str] = {key: name for name, key in LIMITS.items()}


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a flow run takes from its deployment; all is empty where it has none."""

    name: str = ""
    job_variables: Mapping[str, Any] | None = None


class Children:
    """Makes the children of one agent's flow runs. `environ` is the agent's own environment."""

    def __init__(
        self,
        api: Reads,
        access: Access,
        worker_name: str,
        settings: Callable[[], Settings],
        environ: Mapping[str, str],
    ) -> None:
        self._api = api
        self._access = access
        self._worker_name = worker_name
        self._settings = settings
        inherited = scrubbed(environ)
        self._inherited = {name: text for name, text in inherited.items() if not name.startswith(_OF_A_RUN)}

    async def child(self, run: FlowRun, template: Mapping[str, Any]) -> Child:
        """Return the command that runs a claimed run; `template` is its work pool's base job template.

        Raise LaunchError where what it asks for is wrong or missing, StateError where this machine is at fault,
        ApiUnreachableError and CredentialError.
        """
        detail = detail_of(run)
        deployment = await self._deployment(detail.deployment_id)
        asked = Asked(template, deployment.job_variables or {}, detail.job_variables)
        job = await job_of(asked, ApiReferences(self._api), self._inherited)
        settings = self._settings()
        argv, is_booted = _command(job, settings)
        return Child(
            argv=argv,
            env=self._env(run, deployment, job, settings),
            working_dir=_working_dir(job),
            asked=_asked(job),
            stops_itself=not is_booted and _RUNNER in (job.command or ""),
            has_control=is_booted,
        )

    async def hooks(self, flow_run_id: str, template: Mapping[str, Any]) -> Child | None:
        """Return what runs the on_crashed hooks of a flow run; None where it is not Crashed, or has its own command.

        Raises as `child` does.
        """
        try:
            found = await self._api.get(f"/flow_runs/{quote(flow_run_id, safe='')}")
            run, is_crashed = due_run(found, 0.0), get_str(found, "state_type", "") == _CRASHED
        except WrongFieldError as error:
            raise not_understood(error) from error
        if not is_crashed or not detail_of(run).deployment_id:
            return None
        child = await self.child(run, template)
        return replace(child, argv=(child.argv[0], str(HOOKS)), has_control=False) if child.has_control else None

    async def _deployment(self, deployment_id: str) -> Deployment:
        if not deployment_id:
            return Deployment()
        try:
            found = await self._api.get(f"/deployments/{quote(deployment_id, safe='')}")
            return Deployment(get_str(found, "name", ""), get_object(found, "job_variables", {}))
        except WrongFieldError as error:
            raise not_understood(error) from error
        except ApiRefusedError as error:
            if not is_missing(error):
                raise
            raise LaunchError(
                f"the flow run's deployment {deployment_id} does not exist any more", hint="deploy it again"
            ) from error

    def _env(self, run: FlowRun, deployment: Deployment, job: Job, settings: Settings) -> dict[str, str]:
        """Return the child's environment: the run's own wishes win over the administrator's, and these over ours."""
        detail = detail_of(run)
        about = {
            "PREFECT__WORKER_NAME": self._worker_name,
            "PREFECT__FLOW_ID": detail.flow_id,
            "PREFECT__FLOW_NAME": run.flow_name,
            "PREFECT__DEPLOYMENT_ID": detail.deployment_id,
            "PREFECT__DEPLOYMENT_NAME": deployment.name,
        }
        env = self._inherited | _access_env(self._access) | _settings_env(settings, self._inherited)
        env |= {name: text for name, text in about.items() if text and _is_header(text)} | dict(settings.env)
        env |= {name: text for name, text in job.env.items() if text is not None}
        for name in [name for name, text in job.env.items() if text is None]:
            env.pop(name, None)  # null takes a variable away
        return env | {"PREFECT__FLOW_RUN_ID": run.id}  # of whatever run somebody wrote


def _is_header(text: str) -> bool:
    """The engine sends them as headers, in which its HTTP client takes ASCII alone: else it dies of them (3.9.1)."""
    return text.isascii() and text.isprintable()


def _access_env(access: Access) -> dict[str, str]:
    """Return how the engine reaches the API; an auth string wins over a key there, too."""
    env = {
        "PREFECT_API_URL": access.url,
        "PREFECT_API_KEY": access.api_key,
        "PREFECT_API_AUTH_STRING": access.auth_string,
        "PREFECT_CLIENT_CUSTOM_HEADERS": json.dumps(dict(access.headers)) if access.headers else "",
        "PREFECT_API_SSL_CERT_FILE": access.verify if isinstance(access.verify, str) else "",
        "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true" if access.verify is False else "",
    }
    return {name: text for name, text in env.items() if text}


def _settings_env(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    env = {}
    source = settings.sources.get("flow_log_level")
    if source is not None and source.kind is not SourceKind.DEFAULT and settings.flow_log_level != _NO_LEVEL:
        env["PREFECT_LOGGING_LEVEL"] = settings.flow_log_level
    if not settings.cloud_logs:
        env["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    paths = [path for path in (inherited.get("PYTHONPATH", ""), *settings.import_paths) if path]
    if paths:
        env["PYTHONPATH"] = os.pathsep.join(paths)
    return env


def _command(job: Job, settings: Settings) -> tuple[tuple[str, ...], bool]:
    """Return what to execute, and whether that is our boot."""
    if job.command is None:
        return (str(settings.python), str(BOOT)), True
    try:
        words = shlex.split(job.command)
    except ValueError as error:
        raise LaunchError(f"the flow run's command cannot be taken apart: {error}", hint="check its quotes") from error
    if not words or any("\0" in word for word in words):
        raise LaunchError("the flow run's command is empty, or holds a NUL", hint="check the job variable command")
    return tuple(words), False


def _working_dir(job: Job) -> Path | None:
    """Return the folder that was asked for; whether it is there is found out when it is entered."""
    if job.working_dir is None:
        return None
    if "\0" in job.working_dir:
        raise LaunchError("the flow run's working_dir holds a NUL", hint="check the job variable working_dir")
    try:
        return Path(job.working_dir).absolute()
    except OSError as error:
        raise StateError(
            f"the folder that this agent was started in cannot be used: {error.strerror}",
            hint="start the agent in a folder that stays",
        ) from error


def _asked(job: Job) -> dict[str, str]:
    """Return the limits that a job asks for, by variable or by name. Raise LaunchError where one is no such limit."""
    for key, text in job.asked.items():
        option = _OPTIONS[key]
        try:
            option.kind.parse(text)
        except ValueError as error:
            name = _ASKED_AS[key]
            raise LaunchError(
                f"the flow run asks for {name} = {text[:60]!r}: {error}", hint=f"write {option.kind.noun}"
            ) from error
    hints = {name: text or "" for name, text in job.env.items() if name.startswith(VARIABLE_PREFIX)}
    of_fields = {_OPTIONS[key].variable for key in job.asked}
    return {name: text for name, text in hints.items() if name not in of_fields} | dict(job.asked)
