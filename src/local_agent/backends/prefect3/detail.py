"""What a flow run of a work pool has besides what every flow run has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_agent.errors import NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.model import FlowRun

# the process that ran it waits to run it again itself (empirical_policy.retry_type)
IN_PROCESS = "in_process"


@dataclass(frozen=True, slots=True)
class Detail:
    """`FlowRun.detail` of this kind of API. `deployment_id` is "" for a flow run without one."""

    flow_id: str
    deployment_id: str = ""
    job_variables: Mapping[str, Any] = field(default_factory=dict, repr=False)  # secrets may be in their env
    retry_type: str = ""


def detail_of(run: FlowRun) -> Detail:
    """Return the detail of a flow run that this kind of API has handed out."""
    if not isinstance(run.detail, Detail):
        raise NotUnderstoodError(f"flow run {run.id} comes from another kind of API")
    return run.detail
