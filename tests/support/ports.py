"""Ports for servers of the tests, which may be closed and come back on the same one.

They lie below those that the kernel gives to outgoing connections: while a server is down, its port must not become
some connection's own (which, on loopback, may even be one that connects to itself).
"""

from __future__ import annotations

import random

_PORTS = range(12_000, 32_000)
_TRIES = 20


def ports_to_try(known: int = 0) -> list[int]:
    """Return ports by chance, to be tried one after another until one is free; only `known` where that is given."""
    return [known] if known else random.sample(_PORTS, k=_TRIES)
