"""The Prefect 1 API (Server and Cloud) as a backend."""

from local_agent.backends.prefect1.backend import Prefect1Backend
from local_agent.backends.prefect1.transport import Transport

__all__ = ["Prefect1Backend", "Transport"]
