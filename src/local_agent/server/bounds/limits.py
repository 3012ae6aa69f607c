"""How much of this process clients may use up before anything is known of them."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Bounds for what the HTTP side holds. Seconds are for a whole step, however often a client says a little."""

    # The real API takes 5 MB; Prefect keeps below that itself.
    body_bytes: int = 8 * _MIB
    # All bodies that are being received together, and all answers that are not taken yet. Small ones do not count:
    # the number of connections bounds them.
    bytes_in_all: int = 32 * _MIB
    small_bytes: int = _MIB // 16
    # From the first byte of a request to its last.
    receive_seconds: float = 30.0
    # From an answer to its being taken, and to the first byte of the next request: agents ask every few seconds.
    idle_seconds: float = 120.0
    # A client sends its request right after it has connected. For one that has connected as the server stops, that is
    # waited for: behind a socket of systemd nobody is refused.
    first_request_seconds: float = 0.3
    # A client is an address, or a user on a unix socket. All programs of this machine are one client on loopback.
    connections: int = 1024
    connections_of_a_client: int = 768
    # What a client still sends after a refusal is waited for so long.
    farewell_seconds: float = 2.0
