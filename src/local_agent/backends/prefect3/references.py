"""What placeholders of a job configuration name at the API: blocks and variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from local_agent.backends.fields import WrongFieldError, get_object
from local_agent.backends.prefect3.answers import is_missing
from local_agent.errors import ApiRefusedError, NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reads(Protocol):
    """The part of `Api` that is needed here."""

    async def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Read what is at a path. Raise as `Api` does."""


class ApiReferences:
    """Reads them one by one, each when it is asked for."""

    def __init__(self, api: Reads) -> None:
        self._api = api

    async def block(self, type_slug: str, name: str) -> Mapping[str, Any] | None:
        """Return the data of a block document, secrets included; None where there is none."""
        path = f"/block_types/slug/{_quoted(type_slug)}/block_documents/name/{_quoted(name)}"
        return _data(await self._read(f"{path}?include_secrets=true"))

    async def block_by_id(self, block_id: str) -> Mapping[str, Any] | None:
        """Return the data of a block document, secrets included; None where there is none."""
        return _data(await self._read(f"/block_documents/{_quoted(block_id)}?include_secrets=true"))

    async def variable(self, name: str) -> tuple[Any, ...]:
        """Return the value of a variable; empty where there is none."""
        found = await self._read(f"/variables/name/{_quoted(name)}")
        return () if found is None else (found.get("value"),)

    async def _read(self, path: str) -> Mapping[str, Any] | None:
        """Return the object at a path, None where there is none."""
        try:
            found = await self._api.get(path)
        except ApiRefusedError as error:
            if is_missing(error):
                return None
            raise
        if not isinstance(found, dict):
            raise NotUnderstoodError(f"the API answers {path.partition('?')[0]} with what is no object")
        return found


def _data(document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if document is None:
        return None
    try:
        return get_object(document, "data")
    except WrongFieldError as error:
        raise NotUnderstoodError(f"the API answers with a block document that has no data: {error}") from error


def _quoted(name: str) -> str:
    return quote(name, safe="")
