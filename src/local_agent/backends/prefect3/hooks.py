"""Runs the on_crashed hooks of a flow run whose own process can no longer do so: it was killed.

The flows' own interpreter executes this file once the run is Crashed at the API, with the environment that the run had.
It has nothing but the standard library and the Prefect that is there: 2.20, or any 3.
"""

from __future__ import annotations

import os
import sys

if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):  # noqa: PTH120
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as with the engine: nothing is to be imported from beside this file

import asyncio
import inspect
from typing import Any


async def run_hooks(flow_run_id: str) -> None:
    """Load the flow as its engine did, pull steps included, and call its hooks one after another."""
    from prefect.client.orchestration import get_client
    from prefect.logging.loggers import flow_run_logger

    from prefect import flow as _  # noqa: F401 - it brings all the rest: before that the models of 3.0 are not whole

    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
        if flow_run.state is None or not flow_run.state.is_crashed():
            return
    flow = await _loader()(flow_run)
    logger = flow_run_logger(flow_run, flow)
    for hook in _hooks(flow):
        name = getattr(hook, "__name__", "hook")
        logger.info(f"Running hook {name!r} in response to entering state {flow_run.state.name!r}")  # noqa: G004
        try:
            result = _called(hook, flow, flow_run, flow_run.state)
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception(f"An error was encountered while running hook {name!r}")  # noqa: G004


def _loader() -> Any:  # noqa: ANN401 - prefect's own
    try:
        from prefect.flows import load_flow_from_flow_run
    except ImportError:  # 2.20
        from prefect.deployments import load_flow_from_flow_run
    return load_flow_from_flow_run


def _hooks(flow: Any) -> list[Any]:  # noqa: ANN401
    """Of 3 `on_crashed` is a decorator, of 2.20 the list."""
    hooks = getattr(flow, "on_crashed_hooks", None)
    if hooks is None:
        hooks = flow.on_crashed if isinstance(flow.on_crashed, list) else []
    return list(hooks)


def _called(hook: Any, flow: Any, flow_run: Any, state: Any) -> Any:  # noqa: ANN401
    """Call a hook as an engine does, or by its arguments' names where it takes them alone."""
    try:
        inspect.signature(hook).bind(flow, flow_run, state)
    except TypeError:
        return hook(flow=flow, flow_run=flow_run, state=state)
    except ValueError:  # it has no signature
        pass
    return hook(flow, flow_run, state)


if __name__ == "__main__":
    os.environ.pop("LOCAL_AGENT_CONTROL", None)
    asyncio.run(run_hooks(os.environ["PREFECT__FLOW_RUN_ID"]))
