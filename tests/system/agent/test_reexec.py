"""PID 1 executes itself anew while flow runs are launched."""

from __future__ import annotations

import json
from pathlib import Path

from support import launches_in_turn
from support.machine import Machine


def test_a_launch_while_pid_1_executes_itself_anew_is_asked_again_at_once(machine: Machine) -> None:
    machine.write("/srv/turn/launches_in_turn.py", Path(launches_in_turn.__file__).read_text())
    program = f"{machine.agent_python} /srv/turn/launches_in_turn.py /srv/turn 8 >/srv/turn/outcomes"
    machine.run(
        f"{program} & sleep 1; for _ in 1 2 3; do systemctl daemon-reexec; sleep 1; done; wait", timeout_seconds=200
    )
    outcomes = json.loads(machine.read("/srv/turn/outcomes"))
    print(len(outcomes), sorted(outcomes)[-5:], [outcome for outcome in outcomes if outcome[1]])
    assert len(outcomes) > 10
    assert [words for _, words in outcomes if words] == []
    assert max(seconds for seconds, _ in outcomes) < 20
