"""The embedded API with a clock that is so many seconds off: `shifted_server.py SECONDS PORT DATA`."""

import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from local_agent.server import app


def main(shift: timedelta, port: int, data: Path) -> None:
    """Serve until SIGTERM."""
    app.run(
        app.Settings(data=data, port=port),
        announce=partial(print, flush=True),
        complain=partial(print, file=sys.stderr, flush=True),
        clock=lambda: datetime.now(UTC) + shift,
    )


if __name__ == "__main__":
    main(timedelta(seconds=float(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3]))
