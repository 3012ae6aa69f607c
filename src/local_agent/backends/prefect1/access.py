"""Where flow runs find an API that the agent reaches by a unix socket: Prefect's own client speaks only TCP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_agent.backends.fields import WrongFieldError, get_str, load_json
from local_agent.errors import ApiRefusedError, NotUnderstoodError
from local_agent.settings import kinds

if TYPE_CHECKING:
    from local_agent.backends.replies import Reply

# of the embedded API, which tells it on its unix socket only
PATH = "/access"


@dataclass(frozen=True, slots=True)
class Access:
    """A URL on TCP, and the API key that it asks for."""

    url: str
    api_key: str = field(repr=False)


def access_of(reply: Reply, url: str) -> Access:
    """Given the answer to GET /access, return it as Access. `url` is the socket's.

    Raise ApiRefusedError where the API gives flow runs none, and NotUnderstoodError where it cannot be used.
    """
    if reply.status == 404 or reply.is_web_page:
        raise ApiRefusedError(
            f"the API at {url} does not say where flow runs find it, which cannot use a unix socket themselves",
            hint="only `local-agent server --socket` does; for another API set `api` to its URL on TCP",
        )
    try:
        told = load_json(reply.content)
        given = told if isinstance(told, dict) else {}
        return Access(
            str(kinds.URL.parse(get_str(given, "url"))), kinds.SECRET.parse(get_str(given, "api_key")).reveal()
        )
    except (WrongFieldError, ValueError) as error:
        raise NotUnderstoodError(f"the API at {url} tells no usable address for flow runs") from error
