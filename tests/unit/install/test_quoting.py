"""Words as systemd and supervisord want them written. That these read them back is tested with the real ones."""

from __future__ import annotations

import shlex

import pytest

from local_agent.errors import ConfigError
from local_agent.install.quoting import (
    json_without,
    supervisor_command,
    supervisor_environment,
    systemd_assignment,
    systemd_command,
    systemd_credential,
)
from support.hostile import hostile_values


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["/usr/bin/a", "--label=prod1"], "/usr/bin/a --label=prod1"),
        (["/opt/a b/c", "x y"], '"/opt/a b/c" "x y"'),
        (["/a", "50%"], '/a "50%%"'),
        (["/a$b", "$HOME"], '"/a$b" "$$HOME"'),
        (["/a", 'say "hi" \\ now'], '/a "say \\"hi\\" \\\\ now"'),
        (["/a", "", ";", "é", "\t\x01"], '/a "" ";" "é" "\\t\\x01"'),
    ],
)
def test_systemd(words: list[str], written: str) -> None:
    assert systemd_command(words) == written


def test_systemd_variables_and_paths() -> None:
    assert systemd_assignment("A", "x y$%") == '"A=x y$%%"'
    assert systemd_credential('/a/"%i":b') == '/a/"%%i":b'


@pytest.mark.parametrize("path", ["/a b", "/a\\b", "/a\tb"])
def test_paths_that_systemd_loads_no_credential_from_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="no credential"):
        systemd_credential(path)


@pytest.mark.parametrize("path", ["/it's", '/a"b', "/a\\b", "/a\tb"])
def test_paths_that_systemd_starts_no_program_at_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="no program"):
        systemd_command([path, "start"])


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["/usr/bin/a", "--label=prod1"], "/usr/bin/a --label=prod1"),
        (["/opt/a b/c", "it's"], "'/opt/a b/c' 'it'\"'\"'s'"),
        (["/a", "50%"], "/a '50%%'"),
        (["/a", "x ;y"], "/a 'x '';y'"),
    ],
)
def test_supervisord(words: list[str], written: str) -> None:
    assert supervisor_command(words) == written


def test_supervisord_sees_no_comment_and_no_expansion() -> None:
    values = hostile_values(300, seed=3)
    written = supervisor_command(values)
    assert shlex.split(written % {}) == values
    for position, character in enumerate(written):
        assert character not in ";#" or not written[position - 1].isspace()


def test_supervisord_variables() -> None:
    assert supervisor_environment({"A": "x", "B": '{"a": 1}'}) == 'A="x",B=\'{"a": 1}\''
    for impossible in ("\"a' b", "'a'", "a ;b", "a\nb"):
        with pytest.raises(ConfigError):
            supervisor_environment({"A": impossible})


@pytest.mark.parametrize("word", ["a\nb", "a\rb", "a\0b"])
def test_what_cannot_be_carried_is_refused(word: str) -> None:
    for write in (systemd_command, supervisor_command):
        with pytest.raises(ConfigError, match="cannot carry"):
            write(["/a", word])


def test_json_without_special_characters() -> None:
    assert json_without("%'", {"a": "50% 'é'"}) == '{"a": "50\\u0025 \\u0027\\u00e9\\u0027"}'
