"""Debian's Prometheus and promtool, unpacked and not installed: no service is started on anybody's machine.

`python tests/support/prometheus.py` makes them now, if need be.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from support.cache import SetUpError, loudly, made_once

_UNPACK = """\
set -eu
cd "$0"
apt-get download prometheus 2>/dev/null || { apt-get update -qq && apt-get download prometheus; }
dpkg-deb -x prometheus_*.deb .
rm prometheus_*.deb
"""


def binaries() -> Path:
    """Return the folder of `prometheus` and `promtool`, made at the first call."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "debian")
    return made_once(f"prometheus-{release}", _make) / "usr/bin"


def _make(folder: Path) -> None:
    loudly("downloading Debian's prometheus, 20 MB", ["sh", "-c", _UNPACK, folder], tries=3)


if __name__ == "__main__":
    try:
        print(binaries())
    except SetUpError as error:
        sys.exit(f"error: {error}")
