"""Values made to break quoting: what a label, a path or a variable could hold, and no syntax likes."""

from __future__ import annotations

import random

# each stands for a way in which some reader goes wrong
_NASTY = (
    *(" ", "  ", "\t", "'", '"', "''", '""', "\\", "\\\\", "\\n", "\\x41", "\\u0041", "\\'", '\\"'),
    *("%", "%%", "%i", "%n", "%h", "%(here)s", "%(ENV_HOME)s", "%s", "%%%", "$", "$$", "$HOME", "${HOME}", "$(id)"),
    *(";", " ;", "; ", "#", " #", "#!", "&", "|", ">", "<", "`id`", "!", "*", "?", "[", "]", "{", "}", "(", ")", "~"),
    *("=", ",", ":", "/", "../", "@", "-", "--", "+", "=x", "[program:x]", "[Service]", "command=", "# ", "\\;"),
    *("é", "ß", "日本", "\U0001f600", "\u00a0", "\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\x1b[31m", "\x01", "\x7f"),
    *("a", "prod1", "x y", "0", "None", "true", "null"),
)


def hostile_values(count: int, *, seed: int) -> list[str]:
    """Given a number and a seed, return as many different values, none of them blank: each fragment, then mixtures."""
    chance = random.Random(seed)
    values = dict.fromkeys(value for value in _NASTY if value.strip())
    while len(values) < count:
        value = "".join(chance.choices(_NASTY, k=chance.randint(2, 7)))
        if value.strip():
            values[value] = None
    return list(values)[:count]
