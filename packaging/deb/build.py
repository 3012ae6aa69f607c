"""`make deb`: builds the packages of this checkout for Debian 12 and 13, into build/deb/12 and build/deb/13.

Each in a clean root file system, without a network, in memory. Needs root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from roots import CHECKOUT, RELEASES, BuildRoot
from support.cache import SetUpError, locked

# also what is new and not ignored
_KINDS = ("--cached", "--others", "--exclude-standard")
OUTPUT = CHECKOUT / "build/deb"

# $1 the root below, $2 the folder with the source, $3 where the results go, $4... options of dpkg-buildpackage.
# Runs in a mount and a network namespace of its own, so that all of it is gone afterwards.
_BUILD = """\
set -eu
below=$1 source=$2 results=$3
shift 3
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$below,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
mount -t proc proc /mnt/root/proc
mkdir -p /mnt/root/build
cp -a "$source" /mnt/root/build/local-agent
# whatever the umask of the checkout
chmod -R u=rwX,go=rX /mnt/root/build/local-agent
chroot /mnt/root /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    sh -euc 'cd /build/local-agent && exec dpkg-buildpackage -us -uc --sanitize-env "$@"' sh "$@"
find /mnt/root/build -maxdepth 1 -type f -exec cp {} "$results" \\;
"""


def built(release: BuildRoot) -> Path:
    """Given a release, return the folder with the packages of this checkout, built now unless they are there."""
    output = OUTPUT / str(release.number)
    with locked(OUTPUT / f"{release.number}.lock"), tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "local-agent"
        stage(source, f"~deb{release.number}")
        key = f"{_checksum(source)} {release.path.parent.name}\n"
        stamp = output / "complete"
        if not stamp.exists() or stamp.read_text() != key:
            build(release, source, output)
            stamp.write_text(key)
    return output


def build(release: BuildRoot, source: Path, output: Path) -> None:
    """Given a release and a staged source, build its packages into a folder.

    Raise SetUpError with the end of the log when that fails.
    """
    if os.geteuid() != 0:
        raise SetUpError("building packages needs root: run it as root, or with sudo")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    profiles = [f"--build-profiles={','.join(release.profiles)}"] if release.profiles else []
    words = ["unshare", "--mount", "--net", "--propagation=private", "sh", "-c", _BUILD, "sh"]
    result = subprocess.run(
        [*words, release.path, source, output, *profiles],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    (output / "build.log").write_text(result.stdout)
    if result.returncode != 0:
        raise SetUpError(f"building for Debian {release.number} failed:\n{result.stdout[-4000:]}")


def stage(target: Path, version_suffix: str) -> None:
    """Copy this checkout as it lies there, without what git ignores.

    The version becomes the changelog's with a suffix: the packages of Debian 12 and of 13 differ, so their versions
    do, and an upgrade of Debian is one of the package.
    """
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", *_KINDS],
        cwd=CHECKOUT,
        check=True,
        stdout=subprocess.PIPE,
    )
    for name in listed.stdout.decode().split("\0"):
        path = CHECKOUT / name
        if name and (path.is_file() or path.is_symlink()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / name, follow_symlinks=False)
    changelog = target / "debian/changelog"
    first, rest = changelog.read_text().split("\n", 1)
    changelog.write_text(f"{first.replace(')', f'{version_suffix})', 1)}\n{rest}")


def _checksum(folder: Path) -> str:
    """Return a checksum of all files below a folder, with their names and links."""
    checksum = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        executable = path.is_file() and os.access(path, os.X_OK)
        checksum.update(f"{path.relative_to(folder)} {executable} {len(content)}\n".encode() + content)
    return checksum.hexdigest()


def main() -> None:
    """Build for every release, both at once."""
    with ThreadPoolExecutor() as pool:
        folders = list(pool.map(built, RELEASES.values()))
    for folder in folders:
        for package in sorted(folder.glob("*.deb")):
            print(package.relative_to(CHECKOUT))


if __name__ == "__main__":
    try:
        main()
    except SetUpError as error:
        sys.exit(f"error: {error}")
