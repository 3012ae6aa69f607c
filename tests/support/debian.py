"""Root file systems of Debian 12 and 13, as the tests boot them: made by mmdebstrap once, kept in the cache.

`python tests/support/debian.py` makes both now, if need be.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from support.cache import SetUpError, loudly, made_once
from support.prefect_venv import REQUIREMENTS, SERVER_REQUIREMENTS, prefect_wheels

# inside: the interpreter with prefect 1.4.1 (it stands alone, as on a server), and the one that runs the
# agent (the system's, plus what only the embedded API needs)
FLOWS_PYTHON = "/opt/flows/venv/bin/python"
AGENT_PYTHON = "/opt/local-agent/venv/bin/python"

_PACKAGES = (
    # what boots, and what a person at its shell wants
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "dbus-user-session"),
    *("procps", "psmisc", "iproute2", "less", "curl", "ca-certificates"),
    # the agent's run-time dependencies, and what flows need
    *("python3", "python3-click", "python3-jeepney", "python3-jinja2"),
    *("python3-requests", "python3-sdnotify", "python3-systemd", "python3-venv", "git"),
    "supervisor",
)

# what costs time at boot or reaches for the network
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"),
    *("ldconfig.service", "console-getty.service", "getty@tty1.service"),
)

# Runs outside, with the new root as its argument. pip inside may reach no index, so wheels are brought along.
_HOOK = f"""\
#!/bin/sh
set -eu
cp -r "$(dirname "$0")/wheels" "$1/tmp/wheels"
chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 sh -euc '
    install="-m pip install --quiet --disable-pip-version-check --no-index --find-links /tmp/wheels"
    python3 -m venv /opt/flows/venv
    {FLOWS_PYTHON} $install {" ".join(f'"{wanted}"' for wanted in REQUIREMENTS)}
    python3 -m venv --system-site-packages /opt/local-agent/venv
    {AGENT_PYTHON} $install {" ".join(f'"{wanted}"' for wanted in SERVER_REQUIREMENTS)}
    systemctl --quiet mask {" ".join(MASKED)}
    systemctl --quiet disable supervisor.service
    systemctl --quiet set-default multi-user.target
    useradd --create-home --shell /bin/bash alice
    rm -r /tmp/wheels /etc/hostname
    : >/etc/machine-id
'
"""


@dataclass(frozen=True)
class Debian:
    """A release that local-agent runs on."""

    number: int
    suite: str
    python: str

    @property
    def root(self) -> Path:
        """Return the root file system, made at the first call. Nobody writes to it."""
        recipe = "\n".join((*_PACKAGES, _HOOK, *_mmdebstrap_options(Path("hook"))))
        key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        return made_once(f"debian-{self.number}-{key}", self._make) / "root"

    def _make(self, folder: Path) -> None:
        if shutil.which("mmdebstrap") is None:
            message = "mmdebstrap is not installed; `make test` installs it, or: apt-get install mmdebstrap"
            raise SetUpError(message)
        hook = folder / "hook.sh"
        hook.write_text(_HOOK)
        hook.chmod(0o755)
        shutil.copytree(prefect_wheels(self.python), folder / "wheels")
        # each try needs an empty folder
        command = ["sh", "-c", 'rm -rf "$0" && exec mmdebstrap "$@" "$0"', folder / "root"]
        arguments = [*_mmdebstrap_options(hook), self.suite]
        loudly(f"making Debian {self.number}, about a minute", [*command, *arguments], tries=3)
        shutil.rmtree(folder / "wheels")


RELEASES = {12: Debian(12, "bookworm", "3.11"), 13: Debian(13, "trixie", "3.13")}


def _mmdebstrap_options(hook: Path) -> list[str]:
    unwanted = ("man", "doc", "locale", "info", "lintian")
    return [
        *("--mode=root", "--variant=minbase", "--format=directory", "--quiet"),
        *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"),
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in unwanted),
        f"--include={','.join(_PACKAGES)}",
        f"--customize-hook={hook}",
    ]


if __name__ == "__main__":
    try:
        for release in RELEASES.values():
            print(release.root)
    except SetUpError as error:
        sys.exit(f"error: {error}")
