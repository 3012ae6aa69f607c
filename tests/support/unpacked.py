"""Programs of Debian packages, unpacked and not installed: no service is started on anybody's machine.

`python tests/support/unpacked.py` makes them now, if need be.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from support.cache import SetUpError, loudly, made_once

_PACKAGES = ("prometheus", "nginx", "libfaketime")
_UNPACK = """\
set -eu
cd "$0"
apt-get download "$1" 2>/dev/null || { apt-get update -qq && apt-get download "$1"; }
dpkg-deb -x "$1"_*.deb .
rm "$1"_*.deb
"""


def prometheus() -> Path:
    """Return the folder of `prometheus` and `promtool`."""
    return _root("prometheus") / "usr/bin"


def nginx() -> Path:
    """Return nginx."""
    return _root("nginx") / "usr/sbin/nginx"


def faketime() -> Path:
    """Return the library that is preloaded into a program to have its clock set."""
    (library,) = (_root("libfaketime") / "usr/lib").glob("*/faketime/libfaketime.so.1")
    return library


def _root(package: str) -> Path:
    """Return the root of an unpacked package, made at the first call."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "debian")

    def make(folder: Path) -> None:
        loudly(f"downloading Debian's {package}", ["sh", "-c", _UNPACK, folder, package], tries=3)

    return made_once(f"{package}-{release}", make)


if __name__ == "__main__":
    try:
        for one in _PACKAGES:
            print(_root(one))
    except SetUpError as error:
        sys.exit(f"error: {error}")
