"""Sizes, percentages and time spans, as systemd writes them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([KMGTP]?)(?:I?B)?", re.IGNORECASE)
SMALLEST_MEMORY_BYTES = 1 << 20

# systemd.time(7); a month and a year are what systemd takes them for
_SPAN_SECONDS: dict[str, float] = {
    "us": 1e-6, "usec": 1e-6, "µs": 1e-6, "ms": 1e-3, "msec": 1e-3,
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400, "w": 604800, "week": 604800, "weeks": 604800,
    "M": 2629800, "month": 2629800, "months": 2629800, "y": 31557600, "year": 31557600, "years": 31557600,
}  # fmt: skip
_SPAN_PART = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-zA-Zµ]*)")


def parse_memory(value: object) -> int:
    """Given a number of bytes or a size with a unit of 1024, return bytes. Raise ValueError for a share."""
    text = str(value).strip()
    if text.endswith("%"):
        raise ValueError(f'"{text}" is a share of the machine, and a flow run\'s limit is a size')
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a size')
    size_bytes = int(float(match.group(1)) * _UNITS[match.group(2).upper()])
    if size_bytes < SMALLEST_MEMORY_BYTES:
        raise ValueError(f'"{text}" is less than a megabyte, in which nothing runs; the unit may be missing')
    return size_bytes


def show_bytes(size_bytes: int) -> object:
    """Given bytes, return the size in the largest unit that says it exactly."""
    for unit in ("T", "G", "M", "K"):
        if size_bytes and size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return size_bytes


def parse_percent(value: object, *, at_most: int | None = None) -> int:
    """Given 150 or "150%", return 150. Raise ValueError below 1 and above `at_most`."""
    match = re.fullmatch(r"([0-9]{1,6})\s*%?", str(value).strip())
    if match is None:
        raise ValueError(f'"{value}" is not a whole percentage')
    percent = int(match.group(1))
    if percent < 1 or (at_most is not None and percent > at_most):
        raise ValueError(f"{percent}% is out of range")
    return percent


def parse_seconds(value: object) -> float:
    """Given seconds or a time span ("6h 30min"), return seconds, more than 0."""
    text = str(value).strip()
    seconds, position = 0.0, 0
    while position < len(text):
        match = _SPAN_PART.match(text, position)
        if match is None or match.group(2) not in _SPAN_SECONDS:
            raise ValueError(f'"{text}" is not a time span')
        seconds += float(match.group(1)) * _SPAN_SECONDS[match.group(2)]
        position = match.end()
    if seconds <= 0:
        raise ValueError(f'"{text}" is not more than 0 seconds')
    return seconds


def show_seconds(seconds: float) -> object:
    """Given seconds, return them without a needless fraction."""
    return int(seconds) if seconds == int(seconds) else seconds
