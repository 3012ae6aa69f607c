"""The groups that systemd gives a service's processes."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def groups_of(user: str, names: Sequence[str]) -> set[int]:
    """Given a user, and what Group= and SupplementaryGroups= say (names or numbers), return the groups' numbers."""
    try:
        known = set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    except KeyError:
        known = set()
    by_name = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    given = (int(name) if name.isdecimal() else by_name.get(name) for name in names if name)
    return known | {number for number in given if number is not None}


def name_of(gid: int) -> str:
    """Return a group's name, its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
