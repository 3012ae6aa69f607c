"""What the broker says: bounded, and never waited for."""

from __future__ import annotations

import contextlib
import os

from local_agent.broker.server import RateLimitedLog
from support.piped import full_pipe


def test_a_journald_that_does_not_read_holds_up_nobody() -> None:
    reading, writing = full_pipe()
    speaker = RateLimitedLog(lambda: 0.0)
    with os.fdopen(writing, "w") as stream, contextlib.redirect_stderr(stream):
        speaker("one")
        speaker("two")
        while len(os.read(reading, 1 << 20)) == 1 << 20:
            pass
        speaker("three")
    with os.fdopen(reading) as said:
        assert said.read().splitlines() == ["<4>2 messages were lost while journald did not read", "<4>three"]
