"""Prefect 1 as a `Kind` of API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.backends import Kind, Needs
from local_agent.backends.prefect1.backend import Prefect1Backend
from local_agent.backends.prefect1.inquiry import look_at
from local_agent.backends.prefect1.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_agent.aio.clock import Clock
    from local_agent.backends import Observe
    from local_agent.settings import Settings


def _make(
    settings: Callable[[], Settings], environ: Mapping[str, str], clock: Clock, observe: Observe | None
) -> Prefect1Backend:
    now = settings()
    transport = Transport(
        now.api,
        api_key=now.api_key.reveal() if now.api_key else "",
        tenant_id=now.tenant_id or "",
        timeout_seconds=now.request_timeout_seconds,
        observe=observe,
    )
    return Prefect1Backend(transport, settings, environ, clock)


def _why_not(version: str) -> str:
    return "" if version.startswith(("0.", "1.")) else "flow runs need Prefect 1"


KIND = Kind(_make, look_at, Needs("prefect 1.4.1", ("prefect==1.4.1", "marshmallow<4"), _why_not))
