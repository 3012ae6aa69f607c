"""What lets the user that reads the settings, and not every user, read a file: commands for root.

Settings are read by the agent's own user, and `doctor` reads them as that user, too: a command that only takes rights
away could take them from that user.
"""

from __future__ import annotations

import grp
import os
import shlex
import stat
from pathlib import Path


def closed_to_others(path: Path, status: os.stat_result) -> str:
    """Given a file that this process can read, and its status, return what closes it to others but not to this user."""
    owned = status.st_uid == os.geteuid()
    if owned:
        return f"chmod o-r {_quoted(path)}"
    if _is_in_group(status.st_gid):
        return f"chmod o-r,g+r {_quoted(path)}"
    return f"chgrp {_own_group()} {_quoted(path)} && chmod o-r,g+r {_quoted(path)}"


def opened_to_this_user(path: Path) -> str:
    """Given a file that this process may not read, return what lets its user, or shows which folder does not."""
    try:
        closed = next((folder for folder in reversed(path.parents) if not os.access(folder, os.X_OK)), None)
        if closed is not None:
            return _entered_by_this_user(closed)
        status = path.stat()
    except OSError:
        return f"namei -l {_quoted(path)}"
    if status.st_uid == os.geteuid():
        return f"chmod u+r {_quoted(path)}"
    if _is_in_group(status.st_gid):
        return f"chmod g+r {_quoted(path)}"
    return f"chgrp {_own_group()} {_quoted(path)} && chmod g+r {_quoted(path)}"


def _entered_by_this_user(folder: Path) -> str:
    """Return what lets its group enter a folder of root's; whom else it belongs to knows why it is closed."""
    is_roots = folder.stat().st_uid == 0 and folder != Path("/root")
    if not is_roots:
        return f"namei -l {_quoted(folder)}"
    return f"chgrp {_own_group()} {_quoted(folder)} && chmod g+x {_quoted(folder)}"


def is_readable_by_all(status: os.stat_result) -> bool:
    """Whether a file's mode lets every user of the machine read it."""
    return bool(status.st_mode & stat.S_IROTH)


def _is_in_group(gid: int) -> bool:
    return gid == os.getegid() or gid in os.getgroups()


def _own_group() -> str:
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
