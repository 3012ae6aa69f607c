"""What a unit starts instead of the agent: writes its own arguments, variables and credential as JSON."""

import json
import os
import sys
from pathlib import Path

target = Path("/run/dumps") / sys.argv[-1]
folder = os.environ.get("CREDENTIALS_DIRECTORY")
credential = Path(folder, "api-key").read_text() if folder else None
target.parent.mkdir(exist_ok=True)
target.write_text(json.dumps({"argv": sys.argv, "environ": dict(os.environ), "credential": credential}))
