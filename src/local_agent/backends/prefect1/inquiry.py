"""What a person wants to know of an API before trusting it: does it answer, is the key good, who else is there?"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from local_agent.backends import ApiView, Neighbour
from local_agent.backends.fields import get_str
from local_agent.backends.prefect1 import queries
from local_agent.backends.prefect1.transport import Transport
from local_agent.backends.prefect1.writer import rows
from local_agent.errors import LocalAgentError
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from local_agent.settings import Settings

_LATELY = timedelta(minutes=2)


async def look_at(settings: Settings) -> ApiView:
    """Ask the API of an instance. Raise ApiUnreachableError, CredentialError or ApiRefusedError."""
    transport = Transport(
        settings.api,
        api_key=settings.api_key.reveal() if settings.api_key else "",
        tenant_id=settings.tenant_id or "",
        timeout_seconds=settings.request_timeout_seconds,
    )
    try:
        await transport.ask(queries.AUTH_INFO if settings.api_key else queries.TENANT)
        if transport.unix_path:
            await transport.ask_access()
        ahead = transport.api_clock.ahead_seconds
        return ApiView(await _neighbours(transport), -ahead if ahead is not None else None)
    finally:
        transport.close()


async def _neighbours(transport: Transport) -> tuple[Neighbour, ...]:
    """Who polls here. An API that does not tell is no fault."""
    try:
        answer = await transport.ask(queries.agents(transport.api_clock.now() - _LATELY))
        return tuple(rows(answer, "agent", _neighbour))
    except LocalAgentError:
        return ()


def _neighbour(row: Mapping[str, Any]) -> Neighbour:
    return Neighbour(short(get_str(row, "name", "")), tuple(short(str(label)) for label in row.get("labels") or ()))
