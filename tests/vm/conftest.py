"""A virtual machine with an instance of the agent on it, and an API outside."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.api import Api
from support.vm import HOST, Vm, make_disk

_STUB = """\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit 0; fi
case $STUB in
    hog-child) python3 -c 'x = bytearray(400 << 20)'; sleep 2; exit 7 ;;
    hog) exec python3 -c 'x = bytearray(400 << 20); import time; time.sleep(600)' ;;
    nap) exec sleep 3600 ;;
    crash) kill -SEGV $$ ;;
esac
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The embedded API, outside."""
    # the machine has another name for the host, by which no web page may ask
    with Api(tmp_path_factory.mktemp("api") / "server.db", options=["--allow-host", HOST]) as api:
        yield api


@pytest.fixture(scope="module")
def vm(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """A machine that is up, on which an instance prod1 runs, whose interpreter is a stub."""
    if os.geteuid() != 0:
        pytest.skip("making a disk needs root; `sudo make test` runs these, too")
    folder = tmp_path_factory.mktemp("vm")
    port = api.url.rpartition(":")[2]
    files = {"/opt/stub": _STUB, "/etc/local-agent/agent.toml": f'api = "http://{HOST}:{port}"\npython = "/opt/stub"\n'}
    make_disk(folder, files, ["local-agent-broker.socket", "local-agent.target", "local-agent@prod1"])
    with Vm(folder) as vm:
        yield vm
