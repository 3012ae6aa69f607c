"""Which environments a dash passes on as they are."""

from __future__ import annotations

import pytest

from local_agent.launchers.environment import is_plain


@pytest.mark.parametrize("env", [{}, {"A": ""}, {"_": "1", "a_B9": "it's \n = $x"}, {"LINENO_": "", "XPPID": ""}])
def test_plain_ones(env: dict[str, str]) -> None:
    assert is_plain(env)


@pytest.mark.parametrize(
    "name",
    ["", "A=B", "=", "A=", "=A", "A\n", "\nA", "A B", "1A", "A-B", "a.b", "É", "A\0", "PPID", "OPTIND", "LINENO"],
)
def test_names_that_are_none_for_a_shell(name: str) -> None:
    assert not is_plain({name: "x"})
    assert not is_plain({"A": "1", name: "x", "B": "2"})


@pytest.mark.parametrize("text", ["é", "\udcff", "a\0b"])
def test_texts_that_it_might_change(text: str) -> None:
    assert not is_plain({"A": "1", "B": text})
