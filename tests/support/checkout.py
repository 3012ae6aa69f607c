"""This checkout's agent and units, laid out as the package installs them, as one layer of a machine's root."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.debian import AGENT_PYTHON

CHECKOUT = Path(__file__).parents[2]

_SOURCE = "opt/local-agent/src"
_UNITS = "usr/lib/systemd/system"

# where a file of units/ goes, by the end of its name
_PLACES = {
    ".service": _UNITS,
    ".socket": _UNITS,
    ".slice": _UNITS,
    ".target": _UNITS,
    ".timer": _UNITS,
    ".path": _UNITS,
    ".catalog": "usr/lib/systemd/catalog",
    ".dbus": "usr/share/dbus-1/system.d",
    ".rules": "usr/share/polkit-1/rules.d",
    "sysusers": "usr/lib/sysusers.d",
    "sysusers.conf": "usr/lib/sysusers.d",
    "tmpfiles": "usr/lib/tmpfiles.d",
    "tmpfiles.conf": "usr/lib/tmpfiles.d",
}

_COMMAND = f"""\
#!{AGENT_PYTHON} -I
from local_agent.cli.main import main

main()
"""


def lay_out_checkout(layer: Path) -> None:
    """Given an empty folder, fill it with what `apt install local-agent` would bring, from this checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(CHECKOUT / "src", layer / _SOURCE, ignore=ignored)
    _write(layer / "usr/lib/python3/dist-packages/local-agent.pth", f"/{_SOURCE}\n")
    _write(layer / "usr/bin/local-agent", _COMMAND, mode=0o755)
    for file in sorted(CHECKOUT.glob("units/*")):
        for ending, place in _PLACES.items():
            if file.name.endswith(ending):
                _write(layer / place / _installed_name(file), file.read_text())
    for folder in [layer, *layer.rglob("*/")]:
        folder.chmod(0o755)  # whatever the umask: it is merged over the root's own folders


def _installed_name(file: Path) -> str:
    """systemd and the bus read only *.conf of their folders; polkit reads rules in the order of their names."""
    if file.suffix == ".rules":
        return f"90-{file.name}"
    in_conf_folder = file.name.endswith(("sysusers", "tmpfiles", "dbus"))
    return f"{file.stem}.conf" if in_conf_folder else file.name


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
