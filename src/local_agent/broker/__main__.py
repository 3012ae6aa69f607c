"""Starts the broker on the socket that systemd hands over (sd_listen_fds(3)).

python3 -m local_agent.broker [--idle-seconds SECONDS]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time

from local_agent.broker.operations import Operations
from local_agent.broker.server import RateLimitedLog, Server

_FIRST_DESCRIPTOR = 3


def main() -> int:
    """Serve; return the exit code."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        sys.stderr.write("error: the broker is started by local-agent-broker.socket and not by hand\n")
        sys.stderr.write("hint: systemctl status local-agent-broker.socket\n")
        return 64
    parser = argparse.ArgumentParser(prog="local_agent.broker")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="end after so long without a packet")
    idle_seconds = parser.parse_args().idle_seconds
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    with socket.socket(fileno=_FIRST_DESCRIPTOR) as listener:
        asyncio.run(_serve(listener, idle_seconds))
    return 0


async def _serve(listener: socket.socket, idle_seconds: float) -> None:
    operations = Operations()
    server = Server(listener, operations.carry_out, operations.prove, RateLimitedLog(time.monotonic), idle_seconds)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    try:
        await server.run()
    finally:
        operations.close()


if __name__ == "__main__":
    sys.exit(main())
