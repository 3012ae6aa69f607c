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
        status = path.stat()
    except OSError:
        return f"namei -l {_quoted(path)} # shows what keeps {_own_group()} out"
    if status.st_uid == os.geteuid():
        return f"chmod u+r {_quoted(path)}"
    if _is_in_group(status.st_gid):
        return f"chmod g+r {_quoted(path)}"
    return f"chgrp {_own_group()} {_quoted(path)} && chmod g+r {_quoted(path)}"


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
