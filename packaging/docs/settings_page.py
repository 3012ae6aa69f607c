"""local-agent.toml(5), from the declarations of the settings."""

from __future__ import annotations

from collections.abc import Iterator

from facts import Facts
from local_agent.settings.example import toml_text, toml_value
from local_agent.settings.model import OPTIONS, defaults
from local_agent.settings.option import Option
from local_agent.settings.places import TABLES, example_of
from roff import Page

_DESCRIPTION = """\
`/etc/local-agent/agent.toml` holds what all instances of this machine share, `/etc/local-agent/INSTANCE.toml` what one
needs. Both are TOML. Each setting can come from several places; the stronger comes first:

    command line
    LOCAL_AGENT_... variables
    PREFECT__... variables
    INSTANCE.toml
    agent.toml
    Prefect's own files: config.toml, backend.toml, auth.toml
    default

`local-agent config --instance INSTANCE` shows each value and where it came from. An unknown key or a wrong value keeps
the agent from starting, with exit code 78 and every mistake named. `systemctl reload local-agent@INSTANCE` reads the
files again and leaves flow runs alone; where they are wrong, the old settings stay. What needs a restart says so below.
"""

_KEYS = """\
The API key is looked for on the command line, in the systemd credential `api-key`, in variables, in `api_key_file`, in
`api_key`, and in Prefect's own files. A credential is the best place: with the key in a file of root's, mode 0600,
`systemctl edit local-agent@prod1` takes the two lines

    [Service]
    LoadCredential=api-key:/etc/local-agent/prod1.key

LoadCredentialEncrypted= does for a key encrypted with systemd-creds(1).
"""

_HINTS = """\
A flow may ask for limits of its own in the env of its run config: `LOCAL_AGENT_MEMORY_MAX`, `LOCAL_AGENT_CPU_QUOTA` and
so on, named after the keys of the table [limits]. It gets them up to the ceilings. What cannot be understood is said in
the log of the flow run, and the setting holds.
"""


def page(facts: Facts) -> Page:
    """Return the page."""
    page = facts.page("local-agent.toml", 5, "settings of local-agent")
    page.heading("synopsis")
    page.paragraphs("/etc/local-agent/agent.toml\n\n/etc/local-agent/INSTANCE.toml")
    page.heading("description")
    page.paragraphs(_DESCRIPTION)
    page.heading("settings")
    page.items(_entries(""))
    for table in TABLES:
        page.heading(f"table [{table}]")
        page.items(_entries(table))
    page.heading("limits asked for by flow runs")
    page.paragraphs(_HINTS)
    page.heading("the API key")
    page.paragraphs(_KEYS)
    page.heading("example")
    page.example('api = "http://prefect.example.com:4200"\npython = "/opt/flows/venv/bin/python"\nlimit = 8\n')
    page.example('[limits]\nmemory_max = "4G"\n\n[ceilings]\nmemory_max = "16G"\n')
    page.see_also([*facts.other_pages, ("local-agent", 1), ("local-agent-start", 1), ("local-agent-config", 1)])
    return page


def _entries(table: str) -> Iterator[tuple[str, str]]:
    for option in OPTIONS:
        head, _, name = option.key.rpartition(".")
        if option.in_files and head == table:
            yield f"{name} = {_value(option)}", _about(option)


def _value(option: Option) -> str:
    value = defaults()[option.key]
    if value is None or value in ((), {}) or option.default_text:
        return example_of(option)
    return toml_value(option, value)


def _about(option: Option) -> str:
    places = ", ".join(name for name in (option.flag, option.off, option.variable, option.prefect_key) if name)
    value = defaults()[option.key]
    is_empty = value is None or value in ((), {})
    default = option.default_text or ("none" if is_empty else toml_value(option, value).strip(toml_text("")[0]))
    restart = "" if option.reloadable else " Needs a restart."
    return f"{option.help}\n\nElsewhere: {places}. Default: {default}.{restart}"
