"""What a reload takes on, and what waits for a restart."""

from __future__ import annotations

from pathlib import Path

from local_agent.settings.reload import reload
from support.samples import settings


def test_nothing_changed() -> None:
    outcome = reload(settings(), settings())
    assert outcome.settings == settings()
    assert outcome.changed == outcome.needs_restart == ()
    assert outcome.in_words() == "nothing changed"


def test_what_may_change_does() -> None:
    new = settings(limit=4, labels=("a",), cancel_grace_seconds=5)
    outcome = reload(settings(limit=2), new)
    assert outcome.settings == new
    assert set(outcome.changed) == {"limit", "labels", "cancel_grace"}
    assert outcome.needs_restart == ()


def test_what_may_not_stays_and_is_named() -> None:
    old = settings(api="http://one:4200", limit=2)
    new = settings(api="http://two:4200", limit=3, state_dir=Path("/elsewhere"), launcher="scope")
    outcome = reload(old, new)
    assert outcome.settings.api == "http://one:4200"
    assert outcome.settings.state_dir == old.state_dir
    assert outcome.settings.launcher == "auto"
    assert outcome.settings.limit == 3
    assert outcome.in_words() == "limit; only a restart applies api, launcher, state_dir"
