"""What `journalctl -x` says about each event: see packaging/docs/explanations.toml."""

from __future__ import annotations

from journal_page import catalog, explanations
from local_agent.events import all_events


def test_every_event_is_explained() -> None:
    missing = sorted(all_events().keys() - explanations().keys())
    assert not missing, "say in packaging/docs/explanations.toml what these mean and what to do"


def test_every_explanation_is_an_events() -> None:
    assert not sorted(explanations().keys() - all_events().keys())


def test_the_catalog_has_them_all() -> None:
    text = catalog()
    for event in all_events().values():
        assert text.count(f"-- {event.message_id}\n") == 1
