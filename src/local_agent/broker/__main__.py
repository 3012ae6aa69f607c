"""Starts the broker on the socket that systemd hands over (sd_listen_fds(3))."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

from local_agent.broker.operations import Operations
from local_agent.broker.server import Server, Speaker

_FIRST_DESCRIPTOR = 3
_IDLE_SECONDS = 60.0


def main() -> int:
    """Serve; return the exit code."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        sys.stderr.write("error: the broker is started by local-agent-broker.socket and not by hand\n")
        sys.stderr.write("hint: systemctl status local-agent-broker.socket\n")
        return 64
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    with socket.socket(fileno=_FIRST_DESCRIPTOR) as listener:
        asyncio.run(_serve(listener))
    return 0


async def _serve(listener: socket.socket) -> None:
    operations = Operations()
    try:
        await Server(listener, operations.carry_out, Speaker(time.monotonic), _IDLE_SECONDS).run()
    finally:
        operations.close()


if __name__ == "__main__":
    sys.exit(main())
