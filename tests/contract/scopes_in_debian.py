"""Run inside a booted Debian, as root: the launchers' suite over `scope`. Prints what went wrong in each, as JSON.

PYTHONPATH=... python -m contract.scopes_in_debian FOLDER
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import traceback
import uuid
from pathlib import Path

from contract.launching import CHECKS
from contract.local_ground import LocalGround
from local_agent.launchers.scope import Place, ScopeLauncher
from local_agent.systemd.manager import DBusScopeManager

_SLICE = "contract.slice"


async def _outcome(name: str, above: Path) -> str:
    manager = DBusScopeManager("SYSTEM", _SLICE)
    folder = Path(tempfile.mkdtemp(dir=above))
    # another id each time: PID 1 lets go of a scope's name a moment after its last process has ended
    run_id = str(uuid.uuid4())
    ground = LocalGround(folder, "scope", lambda parts: ScopeLauncher(manager, Place(_SLICE, ""), parts), run_id)
    try:
        await CHECKS[name](ground)
    except Exception:
        return traceback.format_exc()
    finally:
        ground.close()
        await manager.close()
    return ""


async def _all(above: Path) -> dict[str, str]:
    return {name: await _outcome(name, above) for name in CHECKS}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_all(Path(sys.argv[1])))))
