"""What no agent can go below on this machine: the parts that any way to start a flow run is made of.

Python that does nothing and ends. The stub started two hundred times by one thread, as a child and as the child of a
sh, which our agent puts between to learn how it ends; from just before the first start to the last one's first line.
And, where systemd is process 1, one question to it over the system bus, with the library that our agent uses.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from bench.bed import Bed
from bench.model import SCOPE, Figure, Row

_COUNT = 200
_PINGS = 20
_SH = ("/bin/sh", "-c", '"$0"; exit "$?"')


def _measure(bed: Bed) -> list[Row]:
    rows = [
        _row(bed, "Python that does nothing", "ms", lambda: _milliseconds([sys.executable, "-c", "pass"])),
        _row(bed, "the stub as a child", "starts/s", lambda: _starts_per_second(bed, [])),
        _row(bed, "the stub as a sh's child", "starts/s", lambda: _starts_per_second(bed, _SH)),
    ]
    if bed.launcher == SCOPE:
        rows.append(_row(bed, "one question to systemd by D-Bus", "ms", _milliseconds_of_ping))
    return rows


def _row(bed: Bed, title: str, unit: str, measure: Callable[[], float]) -> Row:
    where = " in a booted Debian" if bed.launcher == SCOPE else ""
    return Row(f"floor{where}: {title}", unit, [], [measure() for _ in range(bed.rounds)])


def _milliseconds(command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True)
    return (time.monotonic() - began) * 1000


def _starts_per_second(bed: Bed, by: Sequence[str]) -> float:
    with bed.stub() as stub:
        began = time.monotonic()
        children = [subprocess.Popen([*by, stub.path], stdin=subprocess.DEVNULL) for _ in range(_COUNT)]
        last = max(at for _, at in stub.starts(_COUNT))
        for child in children:
            child.wait()
        return _COUNT / (last - began)


def _milliseconds_of_ping() -> float:
    """The shortest of many, as the first one wakes things up."""
    from jeepney import DBusAddress, new_method_call
    from jeepney.io.blocking import open_dbus_connection

    systemd = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.DBus.Peer")
    ping = new_method_call(systemd, "Ping")
    with open_dbus_connection("SYSTEM") as connection:
        return min(_milliseconds_of(lambda: connection.send_and_get_reply(ping)) for _ in range(_PINGS))


def _milliseconds_of(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return (time.monotonic() - began) * 1000


FIGURE = Figure("floors", _measure)
