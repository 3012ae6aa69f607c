"""What those who may use the unix socket are told for their flow runs: Prefect's own client speaks only TCP.

On TCP the kernel tells nobody's user, so it takes a key there. Each user and each group that may use the socket has one
of its own, which lies in the data file: it outlasts a restart of the server, as flow runs do, and ends for good with
the first start without the `--allow-user` or `--allow-group` that it came by.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Access:
    """Where the server listens on TCP, and the keys of those who may use its unix socket, by their allowance."""

    url: str
    keys: dict[str, str] = field(repr=False)

    def page(self, allowance: str) -> dict[str, str]:
        """Return what whoever may use the socket by this allowance is told."""
        return {"url": self.url, "api_key": self.keys[allowance]}
