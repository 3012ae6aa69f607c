"""`make apt-repo`: an apt repository of the built packages in build/apt, to be served by any web server or from disk.

    make deb apt-repo KEY=admin@example.com

signs it with that key of your gpg. On a server:

    gpg --export KEY >/etc/apt/keyrings/local-agent.gpg
    echo 'deb [signed-by=/etc/apt/keyrings/local-agent.gpg] https://example.com/apt bookworm main' \\
        >/etc/apt/sources.list.d/local-agent.list

Each suite has a pool of its own, because the packages of Debian 12 and of 13 differ. It needs dpkg and gpg only.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from build import OUTPUT
from roots import CHECKOUT, RELEASES
from support.cache import SetUpError

# arch: all packages stand in the list of every architecture that a server may have
_ARCHITECTURES = ("all", "amd64", "arm64", "i386", "armhf", "riscv64")


def make_repository(debs: Mapping[str, Sequence[Path]], target: Path, key: str = "", home: Path | None = None) -> None:
    """Given each suite's packages, make a repository of them. `key` signs it; `home` is gpg's own folder."""
    shutil.rmtree(target, ignore_errors=True)
    for suite, packages in debs.items():
        for package in packages:
            place = target / "pool" / suite / package.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package, place)
        _make_suite(target, suite)
        if key:
            _sign(target / "dists" / suite, key, home)


def _make_suite(target: Path, suite: str) -> None:
    entries = "\n".join(_entry(target, package) for package in sorted((target / "pool" / suite).glob("*.deb")))
    for architecture in _ARCHITECTURES:
        folder = target / "dists" / suite / "main" / f"binary-{architecture}"
        folder.mkdir(parents=True)
        (folder / "Packages").write_text(entries)
        (folder / "Packages.gz").write_bytes(gzip.compress(entries.encode(), mtime=0))
    (target / "dists" / suite / "Release").write_text(_release(target / "dists" / suite, suite))


def _entry(target: Path, package: Path) -> str:
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, stdout=subprocess.PIPE, text=True).stdout
    content = package.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    place = package.relative_to(target)
    return f"{control.rstrip()}\nFilename: {place}\nSize: {len(content)}\nSHA256: {checksum}\n"


def _release(folder: Path, suite: str) -> str:
    files = sorted(file for file in folder.rglob("Packages*") if file.is_file())
    sums = "\n".join(
        f" {hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_size} {file.relative_to(folder)}"
        for file in files
    )
    date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime())
    return (
        f"Origin: local-agent\nLabel: local-agent\nSuite: {suite}\nCodename: {suite}\nDate: {date}\n"
        f"Architectures: {' '.join(_ARCHITECTURES)}\nComponents: main\nSHA256:\n{sums}\n"
    )


def _sign(folder: Path, key: str, home: Path | None) -> None:
    gpg = ["gpg", "--batch", "--yes", *(["--homedir", str(home)] if home else []), "--local-user", key]
    for options in (["--clearsign", "-o", "InRelease"], ["--detach-sign", "--armor", "-o", "Release.gpg"]):
        result = subprocess.run([*gpg, *options, "Release"], cwd=folder, stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            raise SetUpError(f"gpg does not sign with {key}:\n{result.stderr}")


def main(arguments: Sequence[str]) -> None:
    """Make the repository and say how to use it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--key", default="", help="sign with this key of your gpg")
    key = parser.parse_args(arguments).key
    debs = {release.suite: sorted((OUTPUT / str(number)).glob("*.deb")) for number, release in RELEASES.items()}
    if not all(debs.values()):
        raise SetUpError("there are no packages in build/deb: run `make deb` first")
    target = CHECKOUT / "build/apt"
    make_repository(debs, target, key)
    option = "signed-by=/etc/apt/keyrings/local-agent.gpg" if key else "trusted=yes"
    for suite in debs:
        print(f"deb [{option}] file:{target} {suite} main")
    if not key:
        print("warning: not signed; sign it with: make apt-repo KEY=<your gpg key>", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetUpError as error:
        sys.exit(f"error: {error}")
