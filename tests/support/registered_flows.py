"""Registering the real flows with the real prefect."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support import real_flows
from support.leftovers import MARKER
from support.prefect_venv import prefect_python


def register(api_url: str, label: str, home: Path, key: str = "") -> Mapping[str, str]:
    """Register all flows under a label, and return their ids by name. `key` is the API's, if it asks for one."""
    own = {name: os.environ[name] for name in ("PATH", MARKER) if name in os.environ}
    done = subprocess.run(
        [prefect_python(), real_flows.__file__, label],
        env={**own, **real_flows.environment(api_url, str(home)), "PREFECT__CLOUD__API_KEY": key},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return real_flows.registered(done.stdout)
