"""What each kind of value accepts, and what it refuses."""

from __future__ import annotations

import pytest

from local_agent.settings import kinds
from local_agent.settings.address import Address
from local_agent.settings.kinds import Kind, whole
from local_agent.settings.lists import parse_env

GIGABYTE = 1 << 30

GOOD: list[tuple[Kind[object], object, object]] = [
    (kinds.MEMORY, "4G", 4 * GIGABYTE),
    (kinds.MEMORY, "1.5g", GIGABYTE * 3 // 2),
    (kinds.MEMORY, "512MiB", 512 << 20),
    (kinds.MEMORY, 4 * GIGABYTE, 4 * GIGABYTE),
    (kinds.PERCENT, "150%", 150),
    (kinds.PERCENT, 150, 150),
    (kinds.SECONDS, "6h 30min", 23400.0),
    (kinds.SECONDS, "1d2h", 93600.0),
    (kinds.SECONDS, "500ms", 0.5),
    (kinds.SECONDS, 2.5, 2.5),
    (kinds.SECONDS, "90", 90.0),
    (kinds.ADDRESS, "http://localhost:8080", Address("localhost", 8080)),
    (kinds.ADDRESS, "127.0.0.1:8080/", Address("127.0.0.1", 8080)),
    (kinds.ADDRESS, ":8080", Address("", 8080)),
    (kinds.ADDRESS, "http://[::1]:80", Address("::1", 80)),
    (kinds.ADDRESS, "[2001:DB8::1]:80", Address("2001:db8::1", 80)),
    (kinds.ADDRESS, "HTTP://Node1.example.:80/", Address("node1.example.", 80)),
    (kinds.ADDRESS, "[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
    (kinds.ADDRESS, "http://[::ffff:127.0.0.1]:80", Address("127.0.0.1", 80)),
    (kinds.ADDRESS, "[::]:65535", Address("::", 65535)),
    (kinds.ADDRESS, "http://:8080", Address("", 8080)),
    (kinds.URL, "https://api.example.com/graph/", "https://api.example.com/graph"),
    (kinds.URL, "unix:///run/a@b/api.sock", "unix:///run/a@b/api.sock"),
    (kinds.URL, "UNIX:/run/api.sock", "unix:///run/api.sock"),
    (kinds.URL, f"unix:///{'s' * 106}", f"unix:///{'s' * 106}"),
    (kinds.UUID, "11111111111141118111111111111111", "11111111-1111-4111-8111-111111111111"),
    (kinds.BOOL, "Yes", True),
    (kinds.BOOL, "0", False),
    (kinds.LABELS, "foo", ("foo",)),
    (kinds.LABELS, "8", ("8",)),
    (kinds.LABELS, "['a', 'b']", ("a", "b")),
    (kinds.LABELS, '("a", "b")', ("a", "b")),
    (kinds.ENV, ("A=x=y", "B="), {"A": "x=y", "B": ""}),
    (kinds.INSTANCE, "Prod-1_a.b:c", "Prod-1_a.b:c"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "written", "parsed"), GOOD)
def test_accepts(kind: Kind[object], written: object, parsed: object) -> None:
    assert kind.parse(written) == parsed


BAD: list[tuple[Kind[object], object, str]] = [
    (kinds.MEMORY, "50%", "share"),
    (kinds.MEMORY, "4", "unit may be missing"),
    (kinds.MEMORY, "-4G", "not a size"),
    (kinds.MEMORY, "4 gigs", "not a size"),
    (kinds.PERCENT, "0%", "out of range"),
    (kinds.PERCENT, "1.5", "whole percentage"),
    (kinds.SHARE, "101%", "out of range"),
    (kinds.SECONDS, "6 parsecs", "time span"),
    (kinds.SECONDS, "-1", "time span"),
    (kinds.SECONDS, "0", "more than 0"),
    (kinds.ADDRESS, "localhost", "host and a port: it is written as 127.0.0.1:8080"),
    (kinds.ADDRESS, "8080", "or :8080 for every interface"),
    (kinds.ADDRESS, "http://[::1]", "it is written as"),
    (kinds.ADDRESS, "http://[::1", "it is written as"),
    (kinds.ADDRESS, "", "it is empty"),
    (kinds.ADDRESS, "localhost:", "it is written as"),
    (kinds.ADDRESS, "localhost:99999", "from 1 to 65535"),
    (kinds.ADDRESS, "localhost:0", "from 1 to 65535"),
    (kinds.ADDRESS, "localhost:" + "9" * 5_000, "it is written as"),
    (kinds.ADDRESS, "https://localhost:80", "http:// only"),
    (kinds.ADDRESS, "::1:8080", "an IPv6 address stands in brackets"),
    (kinds.ADDRESS, "http://::1:8080/", "an IPv6 address stands in brackets"),
    (kinds.ADDRESS, "::1", "an IPv6 address stands in brackets"),
    (kinds.ADDRESS, "[127.0.0.1]:80", "in brackets stands an IPv6 address"),
    (kinds.ADDRESS, "[fe80::1%]:80", "in brackets stands an IPv6 address"),
    (kinds.ADDRESS, "[zz]:80", "in brackets stands an IPv6 address"),
    (kinds.ADDRESS, "[::1\0]:80", "control character"),
    (kinds.ADDRESS, "*:80", "every interface is an empty host"),
    (kinds.ADDRESS, "a b:80", "neither an address nor"),
    (kinds.ADDRESS, "büro.example:80", "neither an address nor"),
    (kinds.ADDRESS, "a..b:80", "neither an address nor"),
    (kinds.ADDRESS, "x" * 64 + ".example:80", "neither an address nor"),
    (kinds.ADDRESS, "user:secret@localhost:80", r"^.\*\*\*@localhost:80. .* takes no user"),
    (kinds.ADDRESS, "localhost:80/api/health", "nothing follows the port"),
    (kinds.ADDRESS, "http://localhost:80?a", "nothing follows the port"),
    (kinds.ADDRESS, "localhost:\uff18\uff10", "it is written as"),
    (kinds.URL, "localhost:4200", "not an http or https URL"),
    (kinds.URL, "http://", "not an http or https URL"),
    (kinds.URL, "http://host:x", "not a URL"),
    (kinds.URL, "http://a b", "not an http or https URL"),
    (kinds.URL, "unix://run/api.sock", "whole path"),
    (kinds.URL, "unix:///run/", "whole path"),
    (kinds.URL, "unix:", "whole path"),
    (kinds.URL, f"unix:///{'s' * 107}", "107 bytes"),
    (kinds.UUID, "1234", "not a UUID"),
    (kinds.BOOL, "maybe", "neither true nor false"),
    (kinds.INSTANCE, "a b", "cannot name"),
    (kinds.INSTANCE, "..", "cannot name"),
    (kinds.INSTANCE, "a/b", "cannot name"),
    (kinds.INSTANCE, "prod\n", "cannot name"),
    (kinds.INSTANCE, "x" * 65, "cannot name"),
    (kinds.ENV, ("FOO",), 'no "="'),
    (kinds.ENV, ("=x",), "cannot name"),
    (kinds.ENV, {"A": ["x"]}, "not a text"),
    (kinds.LABELS, "[dev,staging", "begins like a list"),
    (kinds.LABELS, ("a\nb",), "line break"),
    (kinds.LABELS, ("a\udc80",), "UTF-8"),
    (kinds.LABELS, [["a"]], "not a text"),
    (kinds.SECRET, "a b", "no key"),
    (kinds.SECRET, "kéy", "no key"),
    (kinds.CRASH_POLICY, "reschedule", "not fail, leave"),
    (kinds.CRASH_POLICY, "reschedule(0)", "not fail, leave"),
    (kinds.TEXT, "a\x07", "control character"),
    (whole(1, 10), "11", "more than 10"),
    (whole(1), "0", "less than 1"),
    (whole(1), "1.0", "not a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "written", "complaint"), BAD)
def test_refuses(kind: Kind[object], written: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind.parse(written)


@pytest.mark.parametrize("written", ["fail", "leave", "reschedule(3)"])
def test_a_crash_policy_is_shown_as_it_is_written(written: str) -> None:
    assert str(kinds.CRASH_POLICY.parse(written)) == written


@pytest.mark.parametrize("written", ["4G", "512M", "3K", "1T"])
def test_a_size_is_shown_in_the_largest_exact_unit(written: str) -> None:
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[written[-1]]
    assert kinds.MEMORY.show(int(written[:-1]) * factor) == written


@pytest.mark.parametrize("text", ["[" * 30_000, '{"a":' * 9_000])
def test_an_environment_that_is_nested_too_deep_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r'has no "="'):
        parse_env(text)
