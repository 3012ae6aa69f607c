"""packaging/Containerfile, step by step, and its agent as process 1 of a container with real flow runs."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import real_flows
from support.api import Api, wait_until
from support.checkout import CHECKOUT
from support.debian import RELEASES
from support.image import Image, steps_of
from support.prefect_venv import prefect_wheels

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(300)]

_CONTAINERFILE = CHECKOUT / "packaging/Containerfile"
_DEBIAN = RELEASES[13]
_PYTHON = "/opt/flows/bin/python"
_LABEL = "contained"
_OF_THE_API = {"python3-aiohttp"}  # the embedded one, which the image does not bring
_STOP_SECONDS = 30  # `podman stop` waits for 10 before it kills; it takes 3 on an idle machine


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, built on the Debian of our tests without what its steps are to make."""
    folder = tmp_path_factory.mktemp("image")
    with Image(_CONTAINERFILE, CHECKOUT, _DEBIAN.root, prefect_wheels(_DEBIAN.python), folder) as image:
        image.build("rm -r /opt/flows /opt/local-agent", ": >/etc/apt/sources.list")
        yield image


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """The embedded API, on loopback, which the container shares."""
    with Api(tmp_path / "server.db") as api:
        yield api


def test_it_starts_from_the_release_that_is_tested_and_has_what_the_agent_needs() -> None:
    """The root that the steps run in has more packages than the image that FROM names."""
    steps = steps_of(_CONTAINERFILE)
    assert steps[0].text == f"debian:{_DEBIAN.suite}-slim"
    groups = (CHECKOUT / "packaging/setup/packages.txt").read_text().split("[")
    needed = next(group for group in groups if group.startswith("run]")).splitlines()[1:]
    installed = re.findall(r"^\S+$", steps[1].text.replace(" ", "\n"), re.MULTILINE)
    assert {name for name in needed if name and name[0] != "#"} - _OF_THE_API <= set(installed)


def test_its_agent_is_process_1_with_real_flow_runs(image: Image, api: Api, tmp_path: Path) -> None:
    console = tmp_path / "console"
    environment = real_flows.environment(api.url, "/var/lib/local-agent")
    image.run(["sh", "-c", f"cat >flows.py <<'END'\n{Path(real_flows.__file__).read_text()}\nEND"])
    flows = real_flows.registered(image.run([_PYTHON, "flows.py", _LABEL], environment=environment))
    own = {"LOCAL_AGENT_API": api.url, "LOCAL_AGENT_LABELS": _LABEL}
    with image.started(environment={**environment, **own}, console=console) as container:
        hello = api.create_flow_run(flows["hello"], name="greeting")
        endless = api.create_flow_run(flows["daemon"], parameters={"seconds": 600})
        api.wait_for_state(hello, "Success", seconds=120)
        wait_until(lambda: "greeting | written by the flow itself" in console.read_text(), console.read_text)

        wait_until(lambda: container.pids_of("sleep 7777"), console.read_text)
        (orphan,) = container.pids_of("sleep 7777")
        os.kill(orphan, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{orphan}").exists(), lambda: "the orphan stays a zombie")

        api.wait_for_state(endless, "Running", seconds=120)
        began = time.monotonic()
        os.kill(container.pid, signal.SIGTERM)
        assert container.wait() == 0, console.read_text()
        assert time.monotonic() - began < _STOP_SECONDS
    assert api.state(endless) == "Failed"
    assert api.states(endless)[-1]["message"] == "The machine was shut down"
    assert re.search(r"Stopping because of SIGTERM; [12] flow runs end with it", console.read_text())
