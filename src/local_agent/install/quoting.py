"""How systemd and supervisord want a word written, so that they read back what was meant.

systemd: double quotes, C escapes, `%%` against specifiers, `$$` against variables (systemd.service(5), "Command lines";
systemd.syntax(7)). supervisord: its file is an ini file of Python's configparser (a `;` or `#` after white space begins
a comment, quoted or not), then `%` expands, then Python's shlex splits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from local_agent.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_SYSTEMD_ESCAPES = {"\\": "\\\\", '"': '\\"', "\t": "\\t"}


def systemd_command(words: Sequence[str]) -> str:
    """Given a command's words, return the value of ExecStart=. Raise ConfigError for what it cannot carry.

    Variables are replaced in every word but the first, so only there is a dollar written twice. The first takes no
    quotes, backslashes and control characters, however they are written.
    """
    program, *arguments = words
    if re.search(r"[\\\"'\x00-\x1f\x7f]", program):
        raise ConfigError(f"systemd starts no program at {program!r}", hint="give it a path without quotes and \\")
    return " ".join((_systemd_word(program), *(_systemd_word(word).replace("$", "$$") for word in arguments)))


def systemd_assignment(name: str, value: str) -> str:
    """Given a variable, return the value of Environment=. Raise ConfigError for what it cannot carry."""
    return _systemd_word(f"{name}={value}")


def systemd_credential(path: str) -> str:
    """Given a path, return it for LoadCredential=. Raise ConfigError for what it cannot carry.

    systemd 257 forgets quoting on the way to the process that loads it: a space or a backslash there, and the unit
    fails with "Protocol error".
    """
    if re.search(r"[\s\\\x00-\x1f\x7f]", path):
        hint = "give it a path without spaces and \\"
        raise ConfigError(f"systemd loads no credential from {path!r}", hint=hint)
    return path.replace("%", "%%")


def _systemd_word(word: str) -> str:
    _refuse(word, "\0\r\n", "a unit file")
    if _PLAIN.fullmatch(word):
        return word
    escaped = "".join(_SYSTEMD_ESCAPES.get(character, character) for character in word)
    escaped = re.sub(r"[\x01-\x1f\x7f]", lambda match: f"\\x{ord(match.group()):02x}", escaped)
    return '"' + escaped.replace("%", "%%") + '"'


def supervisor_command(words: Sequence[str]) -> str:
    """Given a command's words, return the value of command=. Raise ConfigError for what it cannot carry."""
    return " ".join(_supervisor_word(word) for word in words)


def supervisor_environment(variables: Mapping[str, str]) -> str:
    """Given variables, return the value of environment=. Raise ConfigError for what it cannot carry.

    supervisord's syntax for it knows no escape: a value has one kind of quotes at most, and none at its ends.
    """
    return ",".join(f"{name}={_supervisor_value(value)}" for name, value in variables.items())


def json_without(special: str, value: object) -> str:
    """Given characters that a syntax reserves, return the value as ASCII JSON that is free of them."""
    text = json.dumps(value)
    return "".join(f"\\u{ord(character):04x}" if character in special else character for character in text)


def _supervisor_word(word: str) -> str:
    _refuse(word, "\0\r\n", "a supervisord.conf")
    if _PLAIN.fullmatch(word):
        return word
    quoted = "'" + word.replace("'", "'\"'\"'") + "'"
    # an empty pair of quotes takes the place of the white space before what would begin a comment
    return re.sub(r"(?<!^)(?=[;#])", "''", quoted).replace("%", "%%")


def _supervisor_value(value: str) -> str:
    _refuse(value, "\0\r\n", "a supervisord.conf")
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value or re.search(r"\s[;#]", value):
        hint = "leave out the quotes, semicolons and hashes"
        raise ConfigError(f"environment= of a supervisord.conf cannot carry {value!r}", hint=hint)
    return quote + value.replace("%", "%%") + quote


def _refuse(text: str, characters: str, where: str) -> None:
    names = {"\0": "a NUL", "\r": "a carriage return", "\n": "a line break"}
    for character in characters:
        if character in text:
            what = f"{text!r} contains {names[character]}, which {where} cannot carry"
            raise ConfigError(what, hint="put this setting into the agent's TOML file, or leave it out")
