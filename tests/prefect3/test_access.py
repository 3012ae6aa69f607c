"""A real server that asks for credentials, and for a token with each change."""

from __future__ import annotations

import pytest

from local_agent.backends.prefect3.api import Api
from local_agent.errors import CredentialError
from local_agent.model import Outcome
from prefect3.bed import FAIL, KILLED, Bed, claimed
from support.prefect3_server import Prefect3Server

SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_API_AUTH_STRING": "admin:pass word",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
}


async def test_a_run_is_claimed_and_reported_with_credentials_and_a_token(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await claimed(agent, run_id)
        assert bed.proxy.count("csrf-token") == 1
        bed.server.set_state(run_id, "RUNNING")
        assert await agent.report(record, KILLED, FAIL) is Outcome.REPORTED
        assert bed.proxy.count("csrf-token") == 1
    assert bed.server.state(run_id)["type"] == "CRASHED"


async def test_a_token_that_the_server_has_forgotten_is_asked_for_anew(bed: Bed) -> None:
    async with bed.agent() as agent:
        bed.proxy.answer(403, "heartbeat", body='{"detail":"Invalid CSRF token."}', kind="application/json", times=1)
        await agent.connect()
        assert bed.proxy.count("csrf-token") == 2


@pytest.mark.parametrize("auth_string", ["", "admin:wrong"])
async def test_wrong_credentials_are_said_to_be_wrong(bed: Bed, auth_string: str) -> None:
    api = Api(bed.access(auth_string=auth_string))
    try:
        with pytest.raises(CredentialError):
            await api.get(f"/work_pools/{bed.name}")
    finally:
        api.close()


def test_the_server_of_this_module_asks_for_a_token(server: Prefect3Server) -> None:
    status, text = server.request("POST", "/flows/", {"name": "no token"})
    assert (status, b"CSRF" in text) == (403, True)
