"""`make shell`: boots a Debian with this checkout's agent installed, and gives a root shell in it."""

from __future__ import annotations

import sys

from support.cache import SetUpError
from support.debian import FLOWS_PYTHON, RELEASES
from support.machine import Machine

_WELCOME = f"""\
Debian {{release}} is up, with this checkout's agent. prefect 1.4.1 is in {FLOWS_PYTHON}.
/etc/local-agent/agent.toml names it. For a start:
    systemd-run --unit=api local-agent server
    systemctl start local-agent@prod1; systemctl status local-agent@prod1
It is gone when you leave: exit, or ctrl-D.
"""


def main(number: str) -> int:
    """Given a release's number as typed, boot it; return the shell's exit code when the person leaves it."""
    if number not in map(str, RELEASES):
        print(f"error: no Debian {number} here\nhint: DEBIAN=12 or DEBIAN=13", file=sys.stderr)
        return 78
    with Machine(int(number)) as machine:
        machine.write("/etc/local-agent/agent.toml", f'python = "{FLOWS_PYTHON}"\n')
        print(_WELCOME.format(release=number), flush=True)
        return machine.shell()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except SetUpError as error:
        sys.exit(f"error: {error}")
