"""Threads that are used again, and end when there is nothing to do."""

from __future__ import annotations

import threading

from local_agent.server.crew import Crew
from support.api_client import wait_until

SECONDS = 60


class Jobs:
    """Jobs that note their threads, and last until they may end."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.may_end = threading.Event()

    def job(self) -> None:
        """Note the thread, and wait."""
        self.threads.append(threading.current_thread())
        assert self.may_end.wait(SECONDS)

    def wait_until_begun(self, count: int) -> None:
        """Wait until so many jobs have begun."""
        wait_until(lambda: len(self.threads) == count, lambda: f"{len(self.threads)} have begun")

    def wait_until_gone(self) -> None:
        """Wait until none of the threads is there any more."""
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


def test_a_thread_that_is_spare_does_the_next_job() -> None:
    crew, jobs = Crew(spare_seconds=SECONDS), Jobs()
    jobs.may_end.set()
    for number in range(5):
        crew.do(jobs.job)
        jobs.wait_until_begun(number + 1)
        wait_until(lambda: crew.spare == 1, lambda: f"{crew.spare} are spare")
    assert len(set(jobs.threads)) == 1
    crew.close()
    jobs.wait_until_gone()
    assert crew.spare == 0


def test_jobs_do_not_wait_for_each_other() -> None:
    crew, jobs = Crew(spare_seconds=0.01), Jobs()
    for _ in range(20):
        crew.do(jobs.job)
    jobs.wait_until_begun(20)
    assert len(set(jobs.threads)) == 20
    jobs.may_end.set()
    jobs.wait_until_gone()
    assert crew.spare == 0


def test_no_job_is_lost_where_threads_end_all_the_time() -> None:
    crew, jobs = Crew(spare_seconds=0.0001), Jobs()
    jobs.may_end.set()
    for _ in range(500):
        crew.do(jobs.job)
    jobs.wait_until_begun(500)
    jobs.wait_until_gone()
    assert crew.spare == 0
