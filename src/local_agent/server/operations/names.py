"""Names for flow runs that were given none: two words that people can tell each other on the telephone."""

from __future__ import annotations

import secrets

# One string each: a list of a hundred quoted words would be read by nobody.
_ADJECTIVES = """
amber brave brisk calm clever copper crimson curious dapper eager early fabled fancy gentle golden honest ivory jolly
keen lively lucky mellow misty modest noble olive patient placid polite proud quick quiet rapid sandy silent silver
sturdy sunny swift tidy violet vivid warm wise
"""
_ANIMALS = """
adder badger beaver bison crane curlew deer dolphin dove eagle egret falcon ferret finch fox gecko goose hare hawk heron
ibex jackdaw kestrel lark lynx magpie marten mole newt otter owl petrel puffin quail raven robin salmon seal shrew stoat
swallow tern toad vole wren
"""


def new_name() -> str:
    """Return a name such as brisk-otter."""
    return f"{secrets.choice(_ADJECTIVES.split())}-{secrets.choice(_ANIMALS.split())}"
