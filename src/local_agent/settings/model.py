"""Every setting of the agent, each declared once.

An option is a field here: its name, type and default are Python's, the rest stands beside it in an `Option`. Flags,
variables, TOML keys, the example file, `local-agent config` and the manual are derived from these declarations.
"""

# The annotations are read at run time, so they are not postponed: no `from __future__ import annotations` here.

import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from local_agent.limits import Limits
from local_agent.model import CrashAction, CrashPolicy
from local_agent.settings import kinds
from local_agent.settings.address import Address
from local_agent.settings.kinds import choice, optional, whole
from local_agent.settings.option import Option, Source
from local_agent.settings.secret import Secret

DEFAULT_INSTANCE = "default"
DEFAULT_CONFIG_DIR = Path("/etc/local-agent")
NO_LIMITS = Limits()
FAIL = CrashPolicy(CrashAction.FAIL)

# fmt: off
LIMIT_OPTIONS: dict[str, Option] = {
    "memory_max_bytes": Option(kind=optional(kinds.MEMORY), key="memory_max", metavar="SIZE",
        help="Memory at which a flow run is killed (MemoryMax=)."),
    "memory_high_bytes": Option(kind=optional(kinds.MEMORY), key="memory_high", metavar="SIZE",
        help="Memory above which a flow run is slowed down (MemoryHigh=)."),
    "cpu_quota_percent": Option(kind=optional(kinds.PERCENT), key="cpu_quota", metavar="PERCENT",
        help="CPU time of a flow run, where 100% is one CPU (CPUQuota=)."),
    "cpu_weight": Option(kind=optional(whole(1, 10000, example="100")), key="cpu_weight", metavar="N",
        help="Share of the CPU under contention, where 100 is usual (CPUWeight=)."),
    "io_weight": Option(kind=optional(whole(1, 10000, example="100")), key="io_weight", metavar="N",
        help="Share of the disks under contention, where 100 is usual (IOWeight=)."),
    "tasks_max": Option(kind=optional(whole(1, example="512")), key="tasks_max", metavar="N",
        help="Processes and threads that a flow run may have at once (TasksMax=)."),
    "runtime_max_seconds": Option(kind=optional(kinds.SECONDS), key="runtime_max", metavar="SPAN",
        help="Time after which a flow run is ended (RuntimeMaxSec=)."),
    "nice": Option(kind=optional(whole(-20, 19, example="5")), key="nice", metavar="N",
        help="Nice value of a flow run's processes, where 19 gives way to all others."),
}
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one agent, parsed; `sources` says for each option key where its value came from."""

    # fmt: off
    # --- the API

    api: Annotated[str, Option(kind=kinds.URL, reloadable=False, flag="--api", short="-a", metavar="URL",
        prefect_key="cloud.api",
        default_text="the backend's: http://localhost:4200, or https://api.prefect.io for cloud",
        help="URL of the Prefect API; a user and a password in it are sent as Basic credentials.",
        )] = field(default="http://localhost:4200", repr=False)
    protocol: Annotated[str, Option(kind=choice("prefect1", "prefect3"), reloadable=False, flag="--protocol",
        metavar="prefect1|prefect3",
        help="Kind of API that flow runs come from: prefect1 is Prefect 0.13 to 1.4, prefect3 is 2.20 and 3.",
        )] = "prefect1"
    backend: Annotated[str, Option(only="prefect1",
        kind=choice("server", "cloud"), reloadable=False, flag="--backend",
        metavar="server|cloud", prefect_key="backend", default_text="server, or cloud if the API is Prefect Cloud's",
        help="What Prefect calls the backend: it decides how the tenant is found.")] = "server"
    api_key: Annotated[Secret | None, Option(kind=optional(kinds.SECRET), flag="--key", short="-k", metavar="KEY",
        prefect_key="cloud.api_key", secret=True,
        help="API key; other users can read it on a command line, so prefer a credential or --api-key-file.",
        )] = None
    api_key_file: Annotated[Path | None, Option(kind=optional(kinds.PATH), flag="--api-key-file",
        metavar="FILE", expand_home=True, example="/etc/local-agent/api-key",
        help="File that holds the API key and nothing else.")] = None
    tenant_id: Annotated[str | None, Option(only="prefect1",
        kind=optional(kinds.UUID), reloadable=False, flag="--tenant-id",
        metavar="UUID", prefect_key="cloud.tenant_id", default_text="the one that the API names",
        help="Tenant to take flow runs of.")] = None
    auth_string: Annotated[Secret | None, Option(only="prefect3", kind=optional(kinds.AUTH_STRING),
        flag="--auth-string", metavar="USER:PASSWORD", secret=True,
        help="What a Prefect 3 server of your own asks for; other users can read it on a command line.")] = None
    agent_config_id: Annotated[str | None, Option(only="prefect1",
        kind=optional(kinds.TEXT), reloadable=False, flag="--agent-config-id",
        metavar="ID", example="agent-config-1",
        help="Agent configuration at the API to link this agent with.")] = None
    request_timeout_seconds: Annotated[float, Option(kind=kinds.SECONDS, key="request_timeout",
        reloadable=False, flag="--request-timeout", metavar="SECONDS", prefect_key="cloud.request_timeout",
        help="How long to wait for an answer of the API.")] = 15
    unhealthy_after_seconds: Annotated[float, Option(kind=kinds.SECONDS, key="unhealthy_after",
        flag="--unhealthy-after", metavar="SECONDS",
        help="How long the API may be out of reach before /api/health says 503.")] = 120

    # --- which flow runs

    instance: Annotated[str, Option(kind=kinds.INSTANCE, flag="--instance", metavar="NAME",
        reloadable=False, in_files=False,
        help="Name of this agent on this machine, the part after the @ of its unit.")] = DEFAULT_INSTANCE
    name: Annotated[str, Option(kind=kinds.TEXT, reloadable=False, flag="--name", short="-n", metavar="NAME",
        prefect_key="cloud.agent.name", default_text="the instance's name, or agent",
        help="Name of this agent at the API.")] = "agent"
    labels: Annotated[tuple[str, ...], Option(only="prefect1",
        kind=kinds.LABELS, flag="--label", short="-l", metavar="LABEL",
        multiple=True, prefect_key="cloud.agent.labels", default_text="the instance's name if it has one",
        help="Label of the flow runs to take.")] = ()
    pool: Annotated[str, Option(only="prefect3",
        kind=kinds.TEXT, reloadable=False, flag="--pool", metavar="NAME", example="lab",
        default_text="the instance's name if it has one",
        help="Work pool to take flow runs of.")] = ""
    work_queues: Annotated[tuple[str, ...], Option(only="prefect3",
        kind=kinds.LABELS, reloadable=False, flag="--work-queue", metavar="QUEUE", multiple=True, example="default",
        default_text="every queue of the pool",
        help="Queue of the work pool to take flow runs of.")] = ()
    hostname_label: Annotated[bool, Option(only="prefect1",
        kind=kinds.BOOL, flag="--hostname-label", off="--no-hostname-label",
        default_text="true, or false for an instance without configured labels",
        help="Take flow runs with this machine's name as a label too.")] = True
    reject_unsupported: Annotated[bool, Option(kind=kinds.BOOL, only="prefect1",
        flag="--reject-unsupported", off="--no-reject-unsupported",
        help="Set flow runs that no local agent can run to Failed, instead of leaving them alone.")] = False
    limit: Annotated[int | None, Option(kind=optional(whole(1)), flag="--limit", metavar="N",
        help="Flow runs at once. One that a live flow run has started may have the place of that one.")] = None
    pressure_memory_percent: Annotated[int | None, Option(kind=optional(kinds.SHARE), key="pressure_memory",
        flag="--pressure-memory", metavar="PERCENT",
        help="Memory pressure (PSI, 10 s average) above which no flow run is taken.")] = None
    pressure_cpu_percent: Annotated[int | None, Option(kind=optional(kinds.SHARE), key="pressure_cpu",
        flag="--pressure-cpu", metavar="PERCENT",
        help="CPU pressure (PSI, 10 s average) above which no flow run is taken.")] = None
    min_free_memory_bytes: Annotated[int | None, Option(kind=optional(kinds.MEMORY), key="min_free_memory",
        flag="--min-free-memory", metavar="SIZE",
        help="Available memory below which no flow run is taken.")] = None
    poll_interval_seconds: Annotated[float, Option(kind=kinds.SECONDS, key="poll_interval",
        flag="--poll-interval", metavar="SECONDS", help="Longest pause between two polls.")] = 2
    max_polls: Annotated[int | None, Option(kind=optional(whole(1)), flag="--max-polls", metavar="N",
        reloadable=False, help="Polls after which the agent ends.")] = None
    claim_check: Annotated[str, Option(kind=choice("auto", "always", "never"), reloadable=False, flag="--claim-check",
        metavar="auto|always|never",
        help="Whether to read a claim back before launching, and to wait first for agents of another kind.")] = "auto"

    # --- how they run

    python: Annotated[Path, Option(kind=kinds.PATH, flag="--python", metavar="PATH", expand_home=True,
        example="/opt/flows/bin/python",
        default_text="the interpreter that runs local-agent",
        help="Python interpreter with Prefect 1 in it, which runs the flow runs.",
        )] = Path(sys.executable)
    launcher: Annotated[str, Option(kind=choice("auto", "scope", "process"), flag="--launcher",
        metavar="auto|scope|process", reloadable=False,
        help="Start flow runs as systemd scopes or as plain processes.")] = "auto"
    env: Annotated[Mapping[str, str], Option(kind=kinds.ENV, flag="--env", short="-e", metavar="KEY=VALUE",
        multiple=True, prefect_key="cloud.agent.env_vars",
        help="Environment variable for every flow run.",
        )] = field(default_factory=dict, repr=False)
    import_paths: Annotated[tuple[str, ...], Option(kind=kinds.PATHS, flag="--import-path", short="-p", metavar="PATH",
        multiple=True, expand_home=True,
        help="Folder to import from, for every flow run.")] = ()
    cloud_logs: Annotated[bool, Option(kind=kinds.BOOL, flag="--cloud-logs", off="--no-cloud-logs",
        prefect_key="cloud.send_flow_run_logs",
        help="Send logs of the agent and of its flow runs to the API.")] = True
    flow_log_level: Annotated[str, Option(prefect_key="logging.level", flag="--flow-log-level",
        kind=choice("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), metavar="LEVEL",
        help="Log level of the flow runs, Prefect's logging.level.")] = "INFO"
    heartbeat_mode: Annotated[str, Option(only="prefect1",
        kind=choice("thread", "process", "off"), flag="--heartbeat-mode",
        metavar="thread|process|off", prefect_key="cloud.heartbeat_mode",
        help="How a flow run sends its heartbeat; a thread takes half the memory.")] = "thread"
    limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS

    # --- how they end

    on_crash: Annotated[CrashPolicy, Option(kind=kinds.CRASH_POLICY, flag="--on-crash",
        metavar="fail|leave|reschedule(N)",
        help="What to do with a flow run whose process ended without reporting its state.",
        )] = FAIL
    oom_policy: Annotated[str, Option(kind=choice("stop", "continue", "kill"), flag="--oom-policy",
        metavar="stop|continue|kill",
        help="What becomes of a flow run of which the kernel kills a process for want of memory (OOMPolicy=); with"
        " `continue` it may cope with the loss of a child. Only in scopes.")] = "stop"
    leftovers: Annotated[str, Option(kind=choice("stop", "keep"), flag="--leftovers", metavar="stop|keep",
        help="What becomes of processes that a flow run left behind.")] = "stop"
    cancel_grace_seconds: Annotated[float, Option(kind=kinds.SECONDS, key="cancel_grace",
        flag="--cancel-grace", metavar="SECONDS",
        help="How long a cancelled flow run may take to end by itself.")] = 30

    # --- the agent itself

    agent_address: Annotated[Address | None, Option(kind=optional(kinds.ADDRESS), flag="--agent-address",
        metavar="URL", prefect_key="cloud.agent.agent_address", reloadable=False,
        help="Where to serve /api/health, /api/poke and /metrics: 127.0.0.1:8080, [::1]:8080, or :8080 for every"
        " interface, of IPv4 and of IPv6.")] = None
    log_level: Annotated[str, Option(kind=choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), flag="--log-level",
        metavar="DEBUG|INFO|WARNING|ERROR", prefect_key="cloud.agent.level",
        help="Lowest level that the agent logs.")] = "INFO"
    show_flow_logs: Annotated[bool, Option(kind=kinds.BOOL,
        flag="--show-flow-logs", short="-f", off="--no-show-flow-logs",
        help="Show the output of flow runs on the console too.")] = False
    state_dir: Annotated[Path, Option(kind=kinds.PATH, flag="--state-dir", metavar="FOLDER",
        expand_home=True, reloadable=False,
        default_text="$STATE_DIRECTORY, or $XDG_STATE_HOME/local-agent/INSTANCE",
        example="/var/lib/local-agent/prod1",
        help="Where the agent remembers its flow runs.")]
    config_dir: Annotated[Path, Option(kind=kinds.PATH, flag="--config-dir", metavar="FOLDER",
        expand_home=True, reloadable=False, in_files=False,
        help="Folder of agent.toml and INSTANCE.toml.")] = DEFAULT_CONFIG_DIR
    # fmt: on

    hostname: str = "localhost"
    files: tuple[Path, ...] = ()
    """The files that were read."""
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def effective_labels(self) -> tuple[str, ...]:
        """What Prefect 1's API is asked for: the labels, sorted and each once, and the hostname's last."""
        if self.protocol != "prefect1":
            return ()
        labels = tuple(sorted(set(self.labels)))
        if self.hostname_label and self.hostname not in labels:
            return (*labels, self.hostname)
        return labels

    @property
    def is_named(self) -> bool:
        """Whether this is an instance of a name of its own."""
        return self.instance != DEFAULT_INSTANCE

    def get(self, option: Option) -> Any:  # noqa: ANN401 - the type is the option's
        """Given an option, return its value."""
        table, _, name = option.key.rpartition(".")
        if table in ("limits", "ceilings"):
            return getattr(getattr(self, table), _LIMIT_ATTRIBUTES[name])
        return getattr(self, _ATTRIBUTES[option.key])


_LIMIT_ATTRIBUTES = {option.key: attribute for attribute, option in LIMIT_OPTIONS.items()}


def _declared() -> Iterator[tuple[str, Option]]:
    for attribute, annotation in Settings.__annotations__.items():
        for option in getattr(annotation, "__metadata__", ()):
            yield attribute, replace(option, key=option.key or attribute)
        if attribute in ("limits", "ceilings"):
            for option in LIMIT_OPTIONS.values():
                yield f"{attribute}.{option.key}", _limit_option(attribute, option)


def attribute_of(option: Option) -> str:
    """Given an option, return the attribute of `Settings` that holds it, "" for one of the tables of limits."""
    return _ATTRIBUTES.get(option.key, "")


def _limit_option(table: str, option: Option) -> Option:
    if table == "limits":
        return replace(option, key=f"limits.{option.key}", flag="--" + option.key.replace("_", "-"))
    return replace(option, key=f"ceilings.{option.key}", help=f"Ceiling of limits.{option.key}.")


_ATTRIBUTES = {option.key: attribute for attribute, option in _declared() if "." not in option.key}
OPTIONS: tuple[Option, ...] = tuple(option for _, option in _declared())
"""All options, in the order of the manual."""

BY_KEY: Mapping[str, Option] = {option.key: option for option in OPTIONS}


def defaults() -> dict[str, object]:
    """Option key -> its fixed default; the state folder has none."""
    values: dict[str, object] = {option.key: None for option in OPTIONS}
    for item in fields(Settings):
        key = next((key for key, attribute in _ATTRIBUTES.items() if attribute == item.name), None)
        if key and item.default is not MISSING:
            values[key] = item.default
        elif key and item.default_factory is not MISSING:
            values[key] = item.default_factory()
    return values


def build(values: Mapping[str, object], **rest: Any) -> Settings:  # noqa: ANN401 - fields of many types
    """Given a parsed value per option key, return the settings."""
    given: dict[str, Any] = {_ATTRIBUTES[key]: value for key, value in values.items() if "." not in key}
    for table in ("limits", "ceilings"):
        limits: dict[str, Any] = {attribute: values[f"{table}.{name}"] for name, attribute in _LIMIT_ATTRIBUTES.items()}
        given[table] = Limits(**limits)
    return Settings(**given, **rest)
