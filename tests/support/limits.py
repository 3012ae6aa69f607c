"""This process at its limits, as a busy machine brings it there."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process open so many descriptors more, and then none (EMFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in range(soft) if not _is_open(number))
    first_forbidden = next(number for seen, number in enumerate(free) if seen == count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_forbidden, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def no_descriptors() -> contextlib.AbstractContextManager[None]:
    """Let this process open no descriptor."""
    return descriptors_left(0)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
