"""What enter.pl does, where there is no perl: `python -I -S enter.py FOLDER COMMAND...`. It imports nothing of ours."""

import errno
import os
import sys
from typing import NoReturn

_SHARED = 3


def main(folder: str, command: list[str]) -> NoReturn:
    """Take the flow run's environment from descriptor 3, and its folder, and become it."""
    os.set_inheritable(_SHARED, False)  # noqa: FBT003 - it takes no keyword
    env = _taken()
    try:
        what = f"enter {folder}"
        os.chdir(folder)
        what = f"execute {command[0]}"
        os.execvpe(command[0], command, env)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        _unable(what, error)


def _taken() -> dict[bytes, bytes]:
    with open(_SHARED, "rb", closefd=False) as shared:
        given = shared.read()
    if not given:  # the shim's subshell has taken it
        return dict(os.environb)
    os.ftruncate(_SHARED, 0)
    entries = given.partition(b"\n")[2]
    split = (entry.partition(b"=") for entry in entries.split(b"\0")[:-1])
    return {name: text for name, _, text in split if name}  # Python passes on no variable without a name


def _unable(what: str, error: OSError) -> NoReturn:
    sys.stderr.write(f"local-agent: cannot {what}: {error.strerror}\n")
    os.lseek(_SHARED, 0, os.SEEK_SET)
    os.write(_SHARED, f"{error.errno}\n".encode())
    os.lseek(_SHARED, 0, os.SEEK_SET)
    sys.exit(127 if error.errno == errno.ENOENT else 126)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
