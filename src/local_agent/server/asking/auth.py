"""Who may ask: everybody, or those who bring the API key, as with Prefect Cloud."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from local_agent.server.data.reads import Reads


class Unauthenticated(Exception):  # noqa: N818 - the word that Prefect looks for
    """The request does not show that it may be made."""


@dataclass(frozen=True)
class Keys:
    """The API keys of which requests must carry one: the administrator's, and those that were handed out; or none."""

    key: str | None = field(default=None, repr=False)
    handed_out: tuple[str, ...] = field(default=(), repr=False)

    @property
    def required(self) -> bool:
        """Whether a key is needed at all."""
        return self.key is not None or bool(self.handed_out)

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise Unauthenticated unless the request carries a key, or none is needed."""
        if not self.required:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Unauthenticated("UNAUTHENTICATED: this API needs an API key (Authorization: Bearer ...)")
        # Compared in constant time, and with each of them: a guess must not learn how much of it was right.
        known = [self.key, *self.handed_out] if self.key is not None else self.handed_out
        if sum(hmac.compare_digest(given.strip().encode(), each.encode()) for each in known) == 0:
            raise Unauthenticated("UNAUTHENTICATED: the API key is wrong")

    def check_tenant(self, headers: Mapping[str, str], reads: Reads) -> None:
        """Raise Unauthenticated if the request names a tenant that is not there."""
        tenant_id = headers.get("x-prefect-tenant-id")
        if tenant_id and not reads.value("SELECT 1 FROM tenant WHERE id = ?", (tenant_id,)):
            raise Unauthenticated(f"UNAUTHENTICATED: the API key has no tenant {tenant_id}")
