"""Prefect 3, 2.20 and Cloud as a `Kind` of API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from local_agent.backends import ApiView, Kind, Needs, Neighbour
from local_agent.backends.prefect3.access import Access, headers_of
from local_agent.backends.prefect3.api import Api
from local_agent.backends.prefect3.backend import Asks, Prefect3Backend, as_no_pool
from local_agent.backends.prefect3.child import Children
from local_agent.backends.prefect3.pool import Pool, worker_name
from local_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_agent.aio.clock import Clock
    from local_agent.backends import Observe
    from local_agent.settings import Settings

_MAX_AT_ONCE = 4
_OLDEST_2 = (2, 20)
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


def _make(
    settings: Callable[[], Settings], environ: Mapping[str, str], clock: Clock, observe: Observe | None
) -> Prefect3Backend:
    now = settings()
    access = _access(now, environ)
    api = Api(access, observe=observe, most_at_once=_MAX_AT_ONCE)
    pool = Pool(api, _pool_of(now), _worker_of(now))
    asks = Asks(now.work_queues, now.hostname, now.claim_check, now.request_timeout_seconds)
    return Prefect3Backend(api, pool, Children(api, access, pool.worker, settings, environ), clock, asks)


async def _look_at(settings: Settings) -> ApiView:
    """Ask the API of an instance. Raise ApiUnreachableError, CredentialError or ApiRefusedError."""
    api = Api(_access(settings, {}))
    try:
        pool = Pool(api, _pool_of(settings), _worker_of(settings))
        with as_no_pool(pool.name, api.url):
            others = await pool.other_workers()
        return ApiView(tuple(Neighbour(name, ()) for name in others), None)
    finally:
        api.close()


def _access(settings: Settings, environ: Mapping[str, str]) -> Access:
    certificates = environ.get("PREFECT_API_SSL_CERT_FILE") or None
    is_unverified = environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").strip().lower() in _TRUE
    return Access(
        settings.api,
        api_key=settings.api_key.reveal() if settings.api_key else "",
        auth_string=settings.auth_string.reveal() if settings.auth_string else "",
        headers=headers_of(environ.get("PREFECT_CLIENT_CUSTOM_HEADERS", "")),
        verify=False if is_unverified else certificates,
        timeout_seconds=settings.request_timeout_seconds,
    )


def _pool_of(settings: Settings) -> str:
    if not settings.pool:
        raise ConfigError("no work pool is named", hint="say which: --pool NAME, or `pool` in the file of the instance")
    return settings.pool


def _worker_of(settings: Settings) -> str:
    return worker_name(settings.name, settings.hostname)


def _why_not(version: str) -> str:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    found = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    return "" if found[0] == 3 or (found[0] == 2 and found >= _OLDEST_2) else "flow runs need Prefect 3 or 2.20"


KIND = Kind(_make, _look_at, Needs("prefect 3", ("prefect>=3",), _why_not))
