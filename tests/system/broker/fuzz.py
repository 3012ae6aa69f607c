"""Packets as no honest agent sends them, from a seed: bytes, cut and mangled requests, and right ones among them."""

from __future__ import annotations

import json
import random
import string
import uuid
from collections.abc import Sequence

VERBS = ("start", "stop", "kill", "reset-failed", "tail", "set", "exec")
PARTS = ("flow_run", "pid", "description", "stop_seconds", "limits", "signal", "lines", "slice", "unit", "do", "id")
LIMITS = ("memory_max_bytes", "memory_high_bytes", "cpu_quota_percent", "cpu_weight", "io_weight", "tasks_max")
FEW = 8  # flow runs to choose from, so that requests meet each other's scopes


class Fuzz:
    """Makes packets for a caller that has some processes of its own, and knows of some that are not."""

    def __init__(self, seed: int, pids: Sequence[int], flow_runs: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._pids = pids
        self._flow_runs = [*flow_runs, *(str(uuid.UUID(int=self._random.getrandbits(128))) for _ in range(FEW))]

    def packets(self, count: int) -> list[bytes]:
        """Return so many packets."""
        return [self._packet() for _ in range(count)]

    def _packet(self) -> bytes:
        kind = self._random.randrange(10)
        if kind == 0:
            return self._random.randbytes(self._random.choice((1, 7, 100, 4096, 4097, 9000)))
        packet = json.dumps(self._request()).encode()
        if kind == 1:
            return packet[: self._random.randrange(1, len(packet) + 1)]
        if kind == 2:
            place = self._random.randrange(len(packet))
            return packet[:place] + self._random.randbytes(1) + packet[place + 1 :]
        return packet

    def _request(self) -> object:
        verb = self._random.choice(VERBS)
        message: dict[str, object] = {"id": self._random.randrange(1000), "do": verb, **self._parts(verb)}
        for _ in range(self._random.choice((0, 0, 0, 1, 2))):
            name = self._random.choice(PARTS)
            if self._random.random() < 0.5:
                message[name] = self._anything()
            else:
                message.pop(name, None)
        return message if self._random.random() < 0.98 else self._anything()

    def _parts(self, verb: str) -> dict[str, object]:
        choose = self._random.choice
        flow_run: dict[str, object] = {"flow_run": choose(self._flow_runs)}
        match verb:
            case "start":
                limits = self._limits() if self._random.random() < 0.5 else {}
                more = {"pid": choose(self._pids), "description": "fuzz", "stop_seconds": 1, "limits": limits}
                return flow_run | more
            case "kill":
                return flow_run | {"signal": choose((0, 9, 15, 18, 64, -9))}
            case "set":
                return flow_run | {"limits": self._limits()}
            case "tail":
                return flow_run | {"lines": choose((1, 100, 101))}
        return flow_run

    def _limits(self) -> dict[str, object]:
        values = (None, 0, 1, 100, 10_000, 1 << 30, 1 << 62, 1 << 64, -1, 0.5, "1", True)
        names = self._random.sample(LIMITS, self._random.randrange(3))
        return {name: self._random.choice(values) for name in names}

    def _anything(self, depth: int = 0) -> object:
        match self._random.randrange(9 if depth < 4 else 6):
            case 0:
                return self._random.choice((None, True, False))
            case 1:
                return self._random.choice((0, 1, -1, 2**31, 2**53, 2**64, -(2**63), 10**30))
            case 2:
                return self._random.choice((0.0, -0.5, 1e308, 5e-324))
            case 3:
                return "".join(self._random.choices(string.printable, k=self._random.randrange(40)))
            case 4:
                return self._random.choice(("\ud800", "\0", "../..", "dbus.service", "\u202e", "é" * 300, "%n"))
            case 5:
                return self._random.choice(self._flow_runs)
            case 6:
                return [self._anything(depth + 1) for _ in range(self._random.randrange(4))]
        return {self._random.choice(PARTS): self._anything(depth + 1) for _ in range(self._random.randrange(4))}
