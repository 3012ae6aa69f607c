"""The tests of this folder run only when asked for (`make test-vm`): software emulation takes minutes."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("LOCAL_AGENT_TESTS_VM") else ["test_*.py"]
