"""How generated inputs are tried: the same ones in `make test` each time, others and more of them in `make chaos`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from support.long_form import is_long_form


def tried(few: int, many: int) -> settings:
    """Return the settings of a test that tries so many inputs. How long one takes is the machine's business."""
    return settings(
        max_examples=many if is_long_form() else few,
        derandomize=not is_long_form(),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
