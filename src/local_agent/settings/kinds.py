"""The kinds of values that settings have: what each accepts, and how to say so.

A parser is given a text (from a flag or a variable) or a TOML value, returns the parsed value and raises ValueError
with a sentence about the value. What would have been right stands in the kind itself, for hints and manuals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from local_agent.model import CrashAction, CrashPolicy
from local_agent.plain import shown_url, without_credentials
from local_agent.settings.address import Address, parse_address
from local_agent.settings.lists import parse_env, parse_list, parse_paths
from local_agent.settings.quantities import (
    parse_memory,
    parse_percent,
    parse_seconds,
    show_bytes,
    show_seconds,
)
from local_agent.settings.secret import Secret

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

INSTANCE_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MAX_SOCKET_BYTES = 107  # sun_path of unix(7), without its NUL
NOTHING = frozenset({"", "none", "infinity"})


def plain(value: object) -> object:
    """Given a parsed value, return what JSON and TOML have for it; a secret becomes its mask."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """One kind of value: `noun` completes the sentence "write ...", `example` is one that is accepted."""

    noun: str
    example: str
    parse: Callable[[object], T_co]
    toml_types: tuple[type, ...] = (str,)
    choices: tuple[str, ...] = ()
    show: Callable[[Any], object] = plain
    """For people and for TOML files; JSON gets `plain`."""
    optional: bool = False


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Given a kind, return the one that can also be none."""

    def parse(value: object) -> T | None:
        if isinstance(value, str) and value.strip().lower() in NOTHING:
            return None
        return kind.parse(value)

    def show(value: T | None) -> object:
        return None if value is None else kind.show(value)

    return Kind(kind.noun, kind.example, parse, kind.toml_types, kind.choices, show, optional=True)


def _parse_text(value: object) -> str:
    text = _text_of(value).strip()
    if not text:
        raise ValueError("it is empty")
    if not text.isprintable():
        raise ValueError("it contains a line break or another control character")
    return text


def _parse_url(value: object) -> str:
    text = _parse_text(value)
    if text.lower().startswith("unix:"):
        return _parse_unix_url(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'"{without_credentials(text)}" is not a URL') from error
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in text or port == 0:
        raise ValueError(f'"{without_credentials(text)}" is not an http or https URL')
    return text.rstrip("/")


def _parse_unix_url(text: str) -> str:
    path = re.sub(r"(?i)^unix:(//)?", "", text)
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f'"{text}" does not name a socket by its whole path')
    if len(path.encode(errors="surrogateescape")) > _MAX_SOCKET_BYTES:
        raise ValueError(f'the path in "{text}" is longer than the {_MAX_SOCKET_BYTES} bytes that the kernel takes')
    return f"unix://{path}"


def show_url(value: object) -> object:
    """Given a URL, return it with a password that stands in it masked."""
    return shown_url(str(value))


_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


def _parse_uuid(value: object) -> str:
    text = _text_of(value).strip().lower()
    if not _UUID.fullmatch(text):
        raise ValueError(f'"{value}" is not a UUID')
    digits = text.replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _parse_secret(value: object) -> Secret:
    text = _text_of(value).strip()
    if not text:
        raise ValueError("it is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it contains a space, a line break or a character that no key has")
    return Secret(text)


def _parse_auth_string(value: object) -> Secret:
    text = _text_of(value).strip()
    if ":" not in text or not text.isprintable():
        raise ValueError("it is not USER:PASSWORD")
    return Secret(text)


_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def _parse_bool(value: object) -> bool:
    text = _text_of(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'"{value}" is neither true nor false')


def _parse_whole(value: object, at_least: int, at_most: int | None) -> int:
    text = _text_of(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f'"{value}" is not a whole number')
    number = int(text)
    if number < at_least:
        raise ValueError(f"{number} is less than {at_least}")
    if at_most is not None and number > at_most:
        raise ValueError(f"{number} is more than {at_most}")
    return number


def whole(at_least: int, at_most: int | None = None, *, example: str = "4") -> Kind[int]:
    """A whole number between two bounds, both allowed."""
    noun = (
        f"a whole number of {at_least} or more" if at_most is None else f"a whole number from {at_least} to {at_most}"
    )
    return Kind(noun, example, lambda value: _parse_whole(value, at_least, at_most), (int,))


def choice(*names: str) -> Kind[str]:
    """One word of a few; capitals do not matter."""
    by_folded = {name.lower(): name for name in names}

    def parse(value: object) -> str:
        found = by_folded.get(_text_of(value).strip().lower())
        if found is None:
            raise ValueError(f'"{value}" is not one of {", ".join(names)}')
        return found

    return Kind(f"one of {', '.join(names)}", names[0], parse, choices=names)


def _parse_instance(value: object) -> str:
    text = _text_of(value)
    if not INSTANCE_PATTERN.fullmatch(text) or text in (".", ".."):
        raise ValueError(f'"{text}" cannot name an instance')
    return text


def _parse_path(value: object) -> Path:
    text = _text_of(value)
    if not text or "\0" in text or "\n" in text:
        raise ValueError("it is empty" if not text else "it contains a line break or a NUL")
    return Path(text)


def _parse_address(value: object) -> Address:
    return parse_address(_parse_text(value))


def _parse_crash_policy(value: object) -> CrashPolicy:
    text = _text_of(value).strip().lower()
    if text in ("fail", "leave"):
        return CrashPolicy(CrashAction(text))
    match = re.fullmatch(r"reschedule\(\s*([1-9][0-9]{0,2})\s*\)", text)
    if match is None:
        raise ValueError(f'"{value}" is not fail, leave or reschedule(N)')
    return CrashPolicy(CrashAction.RESCHEDULE, int(match.group(1)))


TEXT = Kind("a text", "agent", _parse_text)
URL = Kind("a URL, or unix:// and the path of a socket", "http://localhost:4200", _parse_url, show=show_url)
UUID = Kind("a UUID", "11111111-1111-4111-8111-111111111111", _parse_uuid)
SECRET = Kind("an API key", "pcu_...", _parse_secret)
AUTH_STRING = Kind("USER:PASSWORD", "admin:...", _parse_auth_string)
BOOL = Kind("true or false", "true", _parse_bool, (bool,))
INSTANCE = Kind("1 to 64 letters, digits, _ . : or -", "prod1", _parse_instance)
PATH = Kind("a path", "/srv/flows", _parse_path)
ADDRESS = Kind("a URL or HOST:PORT", "127.0.0.1:8080", _parse_address)
CRASH_POLICY = Kind("fail, leave or reschedule(N)", "fail", _parse_crash_policy)
LABELS = Kind("a list of texts", "prod1", parse_list, (list,))
PATHS = Kind("a list of paths", "/srv/flows", parse_paths, (list,))
ENV = Kind("KEY=VALUE", "TZ=UTC", parse_env, (dict,))
MEMORY = Kind("a size in bytes, K, M, G or T", "4G", parse_memory, (int, str), show=show_bytes)
PERCENT = Kind("a percentage", "150%", parse_percent, (int, str), show=lambda n: f"{n}%")
SHARE = Kind(
    "a percentage, 1% to 100%",
    "40%",
    lambda value: parse_percent(value, at_most=100),
    (int, str),
    show=lambda n: f"{n}%",
)
SECONDS = Kind("seconds or a time span", "6h 30min", parse_seconds, (int, float, str), show=show_seconds)
