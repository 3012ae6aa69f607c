"""local-agent runs Prefect flow runs on Linux servers, the systemd way."""

__version__ = "0.1.0"
