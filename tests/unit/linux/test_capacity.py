"""What the kernel lets this process hold at once."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from local_agent.linux.capacity import Descriptors, raise_descriptors, shortage_of_tasks


@pytest.mark.parametrize(("most", "claims", "live"), [(524288, 100, 131031), (1024, 100, 215), (256, 32, 40)])
def test_places_follow_from_the_limit(most: int, claims: int, live: int) -> None:
    descriptors = Descriptors(most, (1, most))
    assert (descriptors.claims_at_once, descriptors.live_runs) == (claims, live)


def test_the_soft_limit_is_raised_and_the_old_one_kept_for_flow_runs() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        descriptors = raise_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert descriptors == Descriptors(hard, (300, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_few_free_descriptors_are_a_shortage() -> None:
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    assert Descriptors(in_use + 1000, (1, 1)).shortage() == ""
    assert "files may still be opened" in Descriptors(in_use + 3, (1, 1)).shortage()


def test_a_limit_of_the_users_processes_is_a_shortage() -> None:
    assert shortage_of_tasks(0) == "", "it does not hold for root"
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (10, hard))
        assert "RLIMIT_NPROC" in shortage_of_tasks(65534)
        assert shortage_of_tasks(0) == ""
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
