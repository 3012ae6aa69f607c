"""Click's flags for the settings, made from their declarations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from local_agent.settings.model import OPTIONS
from local_agent.settings.option import Option

Command = Callable[..., Any]


def start_options(function: Command) -> Command:
    """Add every setting's flag to a command. The function gets `flags`: option key -> what was given for it.

    The texts are not parsed here, so that a wrong one is reported like a wrong line of a file.
    """

    @functools.wraps(function)
    def wrapper(**given: Any) -> Any:  # noqa: ANN401 - click passes what it parsed
        flags = {key: given.pop(name) for name, key in _NAMES.items()}
        return function(flags={key: value for key, value in flags.items() if value not in (None, ())}, **given)

    decorated: Command = wrapper
    for option in reversed(OPTIONS):
        if option.flag:
            decorated = click_option(option)(decorated)
    return decorated


def _parameter(option: Option) -> str:
    return "setting_" + option.key.replace(".", "_")


_NAMES = {_parameter(option): option.key for option in OPTIONS if option.flag}


def click_option(option: Option) -> Callable[[Command], Command]:
    """Given an option, return the decorator that adds its flag to a command."""
    short = (option.short,) if option.short else ()
    if option.off:
        names = f"{option.flag}/{option.off}"
        return click.option(_parameter(option), names, *short, default=None, help=option.help)
    return click.option(
        _parameter(option),
        option.flag,
        *short,
        metavar=option.metavar or None,
        multiple=option.multiple,
        default=None,
        help=option.help.removesuffix(".") + "; may be repeated." if option.multiple else option.help,
    )


def flags_in(words: Sequence[str]) -> dict[str, object]:
    """Given what stands after `local-agent start` on somebody's command line, return option key -> what was given.

    What is no flag of ours is left out, and nothing is printed.
    """
    plain = [word for word in words if word not in ("-h", "--help")]
    taken = {"ignore_unknown_options": True, "allow_extra_args": True}
    start = click.Command("start", params=[*_PARAMETERS], context_settings=taken)
    context = start.make_context("start", plain, resilient_parsing=True)
    given = {key: context.params.get(name) for name, key in _NAMES.items()}
    return {key: value for key, value in given.items() if value not in (None, ())}


@start_options
def _all_options(**_: object) -> None:
    """Carries the declarations of all flags."""


_PARAMETERS: Sequence[click.Parameter] = click.command()(_all_options).params
