"""The settings of the agent: declared once in `model`, read by `load_settings`."""

from local_agent.model import CrashAction, CrashPolicy
from local_agent.settings.address import Address
from local_agent.settings.load import load_settings
from local_agent.settings.model import OPTIONS, Settings
from local_agent.settings.option import Option, Source, SourceKind
from local_agent.settings.secret import Secret

__all__ = [
    "OPTIONS",
    "Address",
    "CrashAction",
    "CrashPolicy",
    "Option",
    "Secret",
    "Settings",
    "Source",
    "SourceKind",
    "load_settings",
]
