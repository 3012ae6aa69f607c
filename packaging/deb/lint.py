"""Runs Debian 13's lintian, at its most pedantic, over built packages of any release."""

from __future__ import annotations

import subprocess
from pathlib import Path

from roots import RELEASES

# $1 the root below, $2 the folder with the packages
_LINT = """\
set -eu
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
mount -t proc proc /mnt/root/proc
mkdir /mnt/root/packages
mount --bind "$2" /mnt/root/packages
chroot /mnt/root /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh -c '
    lintian --allow-root --no-cfg --pedantic --display-info --tag-display-limit=0 /packages/*.changes
' 2>&1
"""


def lint(folder: Path) -> list[str]:
    """Given a folder with a .changes file, return what lintian finds that nothing overrides."""
    words = ["unshare", "--mount", "--net", "--propagation=private", "sh", "-c", _LINT, "sh"]
    words += [str(RELEASES[13].path), str(folder)]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
    return [line for line in result.stdout.splitlines() if line[:2] in ("E:", "W:", "I:", "P:", "C:", "X:")]
