"""The embedded API with a clock that is off."""

from __future__ import annotations

import sys
from pathlib import Path

from support.api import Api


class ShiftedApi(Api):
    """An embedded API whose clock is off by so many seconds from its next start on."""

    shift_seconds = 0.0

    @property
    def command(self) -> list[str]:
        """The command line that starts it."""
        script = Path(__file__).with_name("shifted_server.py")
        return [sys.executable, str(script), str(self.shift_seconds), str(self._port), str(self.data)]
