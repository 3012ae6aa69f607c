"""Run inside a machine: a person at a terminal, who waits for texts and presses keys.

    person.py '["wait text", "press q"]' local-agent top

Prints as JSON what the terminal showed, and the exit code.
"""

import json
import os
import pty
import sys

_CHUNK_BYTES = 65536
_KEYS = {"DOWN": "\x1b[B", "CTRL-C": "\x03"}


def _play(steps: list[str], command: list[str]) -> dict[str, object]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(COLUMNS="120", LINES="40", TERM="xterm")
        os.execvp(command[0], command)
    shown, seen = "", 0
    for step in steps:
        verb, _, text = step.partition(" ")
        if verb == "press":
            os.write(terminal, _KEYS.get(text, text).encode())
            continue
        while text not in shown[seen:]:
            shown += _read(terminal) or sys.exit(f"the terminal was closed before {text!r} was shown: {shown!r}")
        seen = shown.index(text, seen) + len(text)
    while rest := _read(terminal):
        shown += rest
    return {"shown": shown, "code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


def _read(terminal: int) -> str:
    """Return what came, "" when nobody has the other side any more."""
    try:
        return os.read(terminal, _CHUNK_BYTES).decode(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(_play(json.loads(sys.argv[1]), sys.argv[2:])))
