"""Where figures are measured: one embedded API, and agents of both sides against it, in turn."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from bench.sides import Ours, Side, Theirs
from bench.stub import Stub
from support.api import Api

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Samples(Generic[Sample]):
    """What both sides gave, one sample a round."""

    theirs: list[Sample] = field(default_factory=list)
    ours: list[Sample] = field(default_factory=list)

    @property
    def sides(self) -> tuple[list[Sample], list[Sample]]:
        """Both, as a row takes them."""
        return self.theirs, self.ours

    def of(self, number: Callable[[Sample], float]) -> tuple[list[float], list[float]]:
        """Given what to take of a sample, return that of both."""
        return [number(sample) for sample in self.theirs], [number(sample) for sample in self.ours]


class NewSide(Protocol):
    """Makes an agent of one side, not started yet: `Bed.theirs` or `Bed.ours`."""

    def __call__(self, *, stub: Stub | None = None, api_url: str = "") -> Side:
        """`stub` starts in place of flow runs; `api_url` leads to the API elsewhere."""


@dataclass(frozen=True)
class Bed:
    """What a figure needs. `launcher` is how our agent launches: scope under systemd, else process."""

    folder: Path
    api: Api
    prefect_python: Path
    launcher: str
    rounds: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def say(self, what: str) -> None:
        """Tell the person who waits."""
        print(f"    {what}", file=sys.stderr, flush=True)

    def new_folder(self) -> Path:
        """Return a folder that nothing uses."""
        return self.folder / str(next(self._numbers))

    def theirs(self, *, stub: Stub | None = None, api_url: str = "") -> Theirs:
        """Return their agent as an administrator starts it."""
        return self._theirs(stub, api_url, None)

    def their_pokable(self, *, stub: Stub | None = None, api_url: str = "") -> Theirs:
        """Return their agent with an address where it can be poked; ours always can."""
        return self._theirs(stub, api_url, _free_port())

    def _theirs(self, stub: Stub | None, api_url: str, poke_port: int | None) -> Theirs:
        path = stub.path if stub else None
        folder = self.new_folder()
        return Theirs(folder, self.api, self.prefect_python, stub=path, api_url=api_url, poke_port=poke_port)

    def ours(self, *, stub: Stub | None = None, api_url: str = "") -> Ours:
        """Return our agent."""
        path = stub.path if stub else None
        return Ours(self.new_folder(), self.api, self.prefect_python, self.launcher, stub=path, api_url=api_url)

    @contextlib.contextmanager
    def stub(self, *, held: bool = False) -> Iterator[Stub]:
        """Give a child in place of flow runs."""
        with contextlib.closing(Stub(self.new_folder(), held=held)) as stub:
            yield stub

    def in_turn(self, measure: Callable[[NewSide], Sample], *, theirs: NewSide | None = None) -> Samples[Sample]:
        """Measure theirs, ours, theirs, ours, ... as many rounds as wanted."""
        samples = Samples[Sample]()
        for number in range(1, self.rounds + 1):
            samples.theirs.append(measure(theirs or self.theirs))
            samples.ours.append(measure(self.ours))
            self.say(f"round {number} of {self.rounds}: theirs {samples.theirs[-1]}, ours {samples.ours[-1]}")
        return samples


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
