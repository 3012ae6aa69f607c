"""Which module may import which: the one table. Upper layers import lower ones, never the other way.

A name stands for the module and everything below it; the longest name that fits decides.
"""

from __future__ import annotations

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("app", "host"),
    ("service",),
    ("agent",),
    ("events", "launchers", "install"),
    ("backends", "systemd"),
    ("net", "settings", "store"),
    ("aio", "linux", "wording"),
    ("model", "report"),
    ("errors", "limits", "plain"),
    ("dbus", "units"),
    ("",),  # the package's own __init__: its version
)

# They stand apart: each may import only what it names here and what lies below that name, and only the modules named
# after it may import it.
APART: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # its protocol is written once, and there; whether it would answer us, it tells itself
    "broker": (frozenset({"dbus", "linux.proc", "units"}), frozenset({"systemd.broker_client", "launchers.managers"})),
    "server": (frozenset({"", "errors", "net.http_guard"}), frozenset({"cli.server"})),
}


def layer_of(module: str) -> int | None:
    """Given a module's name below the package, return its layer's number, counted from the top. None if it has none."""
    places = {name: number for number, names in enumerate(LAYERS) for name in names}
    return next((places[name] for name in longest_first(module) if name in places), None)


def apart_name(module: str) -> str | None:
    """Given a module's name, return which of those that stand apart it belongs to, if any."""
    return next((name for name in longest_first(module) if name in APART), None)


def longest_first(module: str) -> list[str]:
    """Given a module's name, return it and the names of the packages that it lies in, from the inside."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
