"""What Prefect's own process worker makes of a job's template and variables: a process to ask, and its script.

The script is run by an interpreter with the real Prefect 3: a question a line, as JSON, and an answer a line. The tests
themselves never import prefect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import types
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Oracle:
    """A process that answers with the job which the real worker would run, or with its error's class."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Given template, deployment, flow_run, blocks, blocks_by_id, variables and environ, return the job."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: Mapping[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextlib.contextmanager
def asked_of(python: Path, home: Path) -> Iterator[Oracle]:
    """Start an oracle in a home of its own."""
    env = {"HOME": str(home), "PREFECT_HOME": str(home), "PATH": os.environ["PATH"], "PREFECT_LOGGING_LEVEL": "ERROR"}
    with subprocess.Popen(
        [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        yield Oracle(process)


class _Client:
    """What the real code asks its client for."""

    def __init__(self, question: Mapping[str, Any]) -> None:
        self._question = question

    async def read_block_document_by_name(self, *, name: str, block_type_slug: str) -> object:
        return _document(self._question["blocks"][f"{block_type_slug}.{name}"])

    async def read_block_document(self, block_document_id: str) -> object:
        return _document(self._question["blocks_by_id"][block_document_id])

    async def read_variable_by_name(self, *, name: str) -> object:
        variables = self._question["variables"]
        return types.SimpleNamespace(value=variables[name]) if name in variables else None

    async def read_deployment(self, deployment_id: object) -> object:
        return types.SimpleNamespace(
            id=deployment_id, name="daily", job_variables=self._question["deployment"], updated=None
        )

    async def read_flow(self, flow_id: object) -> object:
        return types.SimpleNamespace(id=flow_id, name="flow")


def _document(data: Mapping[str, Any]) -> object:
    return types.SimpleNamespace(data=data)


async def _answer(question: Mapping[str, Any]) -> Mapping[str, Any]:
    from prefect.client.schemas.objects import FlowRun
    from prefect.workers.process import ProcessJobConfiguration

    # the environment of this process is none of the job's
    ProcessJobConfiguration.prepare_for_flow_run = lambda *_, **__: None
    flow_run = FlowRun(flow_id=uuid.uuid4(), deployment_id=uuid.uuid4(), job_variables=question["flow_run"])
    pool = types.SimpleNamespace(base_job_template=question["template"], name="lab", id=uuid.uuid4())
    os.environ.update(question["environ"])
    try:
        job = await ProcessJobConfiguration.resolve_for_flow_run(
            flow_run, client=_Client(question), work_pool=pool, worker_name="w"
        )
    except Exception as error:  # whatever the real code raises is the answer
        return {"error": type(error).__name__, "message": str(error)}
    finally:
        for name in question["environ"]:
            del os.environ[name]
    working_dir = None if job.working_dir is None else str(job.working_dir)
    return {"command": job.command, "env": job.env, "working_dir": working_dir}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asyncio.run(_answer(json.loads(line)))), flush=True)
