"""The example configuration: every setting that can stand in a file, all commented out.

`python -m local_agent.settings.example` prints it.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator

from local_agent.settings.model import OPTIONS, defaults
from local_agent.settings.option import Option
from local_agent.settings.places import TABLES, example_of

_HEAD = """\
Settings of local-agent. /etc/local-agent/agent.toml holds for every agent of this machine,
/etc/local-agent/INSTANCE.toml for one, and wins. Stronger than both are flags and variables:

  flag > LOCAL_AGENT_* > PREFECT__* > INSTANCE.toml > agent.toml > Prefect's own files > default

`local-agent config --instance INSTANCE` shows what holds, and where it came from.
`systemctl reload local-agent@INSTANCE` applies a change; what needs a restart says so below.
"""

_TABLE_HEADS = {
    "limits": "What one flow run may use, unless it asks for something else itself: its run config's\n"
    "env may hold LOCAL_AGENT_MEMORY_MAX, LOCAL_AGENT_RUNTIME_MAX and so on.",
    "ceilings": "The most that a flow run may ask for. Where a ceiling is set and no limit is, it is the limit.\n"
    "For nice it is the lowest value.",
}


def example_toml() -> str:
    """Return the file's text."""
    return "\n".join(_lines()) + "\n"


def toml_value(option: Option, value: object) -> str:
    """Given an option and its parsed value, return the value as TOML writes it."""
    shown = option.kind.show(value)
    if isinstance(shown, dict):
        return "{ " + ", ".join(f"{toml_text(str(k))} = {toml_text(str(v))}" for k, v in shown.items()) + " }"
    if isinstance(shown, list):
        return "[" + ", ".join(toml_text(str(item)) for item in shown) + "]"
    if isinstance(shown, bool):
        return str(shown).lower()
    return str(shown) if isinstance(shown, int | float) else toml_text(str(shown))


def toml_text(text: str) -> str:
    """Given a text, return it as a basic string of TOML, which is JSON's but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines() -> Iterator[str]:
    yield from _comment(_HEAD)
    table = ""
    in_files = [option for option in OPTIONS if option.in_files]
    for option in sorted(in_files, key=lambda option: "." in option.key):  # what stands below a table belongs to it
        head, _, name = option.key.rpartition(".")
        if head in TABLES and head != table:
            table = head
            yield ""
            yield from _comment(_TABLE_HEADS[head])
            yield f"#[{head}]"
        yield ""
        yield from _comment(_about(option))
        yield f"#{name} = {_value(option)}"


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"# {line}".rstrip()


def _about(option: Option) -> str:
    """The help, then where else it can be set, then the default."""
    places = ", ".join(name for name in (option.flag, option.variable, option.prefect_key) if name)
    default = option.default_text or _default(option)
    restart = "" if option.reloadable else "; needs a restart"
    return "\n".join((*textwrap.wrap(option.help, 98), f"{places}; default: {default}{restart}"))


def _default(option: Option) -> str:
    value = defaults()[option.key]
    empty = value is None or value == () or value == {}
    return "none" if empty else toml_value(option, value).strip('"')


def _value(option: Option) -> str:
    value = defaults()[option.key]
    if value is None or value in ((), {}) or option.default_text:
        return example_of(option)
    return toml_value(option, value)


if __name__ == "__main__":
    sys.stdout.write(example_toml())
