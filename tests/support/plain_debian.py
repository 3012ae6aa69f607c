"""Debian 12 and 13 as they come: what boots, and nothing of ours. What our packages depend on is beside it, in a file.

`python tests/support/plain_debian.py` makes both now, if need be. `plain_machine(13, repository)` boots one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from apt_repository import make_repository
from support.cache import SetUpError, loudly, made_once
from support.container import Container
from support.debian import MASKED, RELEASES
from support.machine import Machine
from support.prefect_venv import prefect_wheels

REPOSITORY = "/srv/apt"
KEYRING = "/etc/apt/keyrings/local-agent.gpg"

# tzdata, because configuring it would move /etc/localtime, which systemd-nspawn mounts
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "procps", "ca-certificates", "tzdata")
# what README.md and the tests will have apt install; Debian 12 has no graphql-core 3
_DEPENDENCIES = (
    *("python3", "python3-click", "python3-jeepney", "python3-jinja2", "python3-requests", "python3-sdnotify"),
    *("python3-systemd", "libpam-systemd", "passwd", "python3-venv"),
    *("autopkgtest", "curl", "dpkg-dev", "fish", "jq", "polkitd", "zsh"),
)
_MORE = {12: (), 13: ("python3-aiohttp", "python3-graphql-core")}

# Runs outside, with the new root as its argument and then the packages to bring along.
_HOOK = f"""\
#!/bin/sh
set -eu
root=$1
chroot "$root" apt-get -q -y --no-install-recommends --download-only install {{packages}} >/dev/null
mkdir -p "$root/srv/debs"
mv "$root"/var/cache/apt/archives/*.deb "$root/srv/debs/"
chroot "$root" systemctl --quiet mask {" ".join(MASKED)}
chroot "$root" systemctl --quiet set-default multi-user.target
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root/etc/hostname"
: >"$root/etc/machine-id"
"""


def plain_root(number: int) -> Path:
    """Given a release, return its root file system, made at the first call. Nobody writes to it."""
    recipe = "\n".join((*_PACKAGES, _hook(number)))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return made_once(f"plain-{number}-{key}", lambda folder: _make(number, folder)) / "root"


def _hook(number: int) -> str:
    return _HOOK.format(packages=" ".join((*_DEPENDENCIES, *_MORE[number])))


def _make(number: int, folder: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise SetUpError("mmdebstrap is not installed; `make test` installs it, or: apt-get install mmdebstrap")
    hook = folder / "hook.sh"
    hook.write_text(_hook(number))
    hook.chmod(0o755)
    options = [
        *("--mode=root", "--variant=apt", "--format=directory", "--quiet"),
        *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io", "--skip=cleanup/apt/cache"),
        f"--include={','.join(_PACKAGES)}",
        f"--customize-hook={hook}",
    ]
    command = ["sh", "-c", 'rm -rf "$0" && exec mmdebstrap "$@" "$0"', folder / "root"]
    doing = f"making a plain Debian {number}, half a minute"
    loudly(doing, [*command, *options, RELEASES[number].suite], tries=3)
    debs = folder / "root/srv/debs"
    make_repository({"debian": sorted(debs.glob("*.deb"))}, folder / "root/srv/debian")
    shutil.rmtree(debs)


def plain_machine(
    number: int, repository: Path, keyring: Path, lay_out_more: Callable[[Path], None] = lambda _layer: None
) -> Machine:
    """Given a release and a signed repository of our packages, return the machine that has it as an apt source.

    The environment with prefect 1.4.1 is in /opt/flows, as an admin would have put it there. `lay_out_more` fills the
    layer above the root further.
    """

    def lay_out(layer: Path) -> None:
        suite = RELEASES[number].suite
        _write(layer, "etc/apt/sources.list.d/ours.list", f"deb [signed-by={KEYRING}] file:{REPOSITORY} {suite} main\n")
        (layer / KEYRING[1:]).parent.mkdir()
        shutil.copyfile(keyring, layer / KEYRING[1:])
        shutil.copytree(repository, layer / REPOSITORY[1:])
        (layer / "opt").mkdir()
        flows = RELEASES[number].root / "opt/flows"
        subprocess.run(["cp", "-a", flows, layer / "opt/flows"], check=True)
        lay_out_more(layer)

    return Machine(number, Container(plain_root(number), f"plain{number}", partial(_lay_out, lay_out)))


def lonely_machine(number: int, lay_out_more: Callable[[Path], None]) -> Machine:
    """Given a release, return the machine that is as it comes, and reaches nobody: every port of loopback is free.

    Apt gets from it what our packages depend on, and pip what prefect does and this checkout.
    """

    def lay_out(layer: Path) -> None:
        shutil.copytree(prefect_wheels(RELEASES[number].python), layer / "srv/wheels")
        _write(layer, "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")  # as Debian's installer writes it
        _write(layer, "etc/pip.conf", "[global]\nno-index = true\nfind-links = /srv/wheels\n")
        lay_out_more(layer)

    root = plain_root(number)
    return Machine(number, Container(root, f"plain{number}", partial(_lay_out, lay_out), has_own_network=True))


def _lay_out(more: Callable[[Path], None], layer: Path) -> None:
    _write(layer, "etc/apt/sources.list.d/debian.list", "deb [trusted=yes] file:/srv/debian debian main\n")
    more(layer)
    for folder in [layer, *layer.rglob("*/")]:
        folder.chmod(0o755)


def _write(layer: Path, name: str, text: str) -> None:
    (layer / name).parent.mkdir(parents=True, exist_ok=True)
    (layer / name).write_text(text)


if __name__ == "__main__":
    try:
        with ThreadPoolExecutor() as pool:
            print(*pool.map(plain_root, RELEASES), sep="\n")
    except SetUpError as error:
        sys.exit(f"error: {error}")
