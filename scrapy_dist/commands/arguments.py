"""What argparse lacks for the subcommands of ``scrapy frontier``."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_list", "json_lines", "whole_number"]


def add_list(parser: argparse.ArgumentParser, name: str, **kwargs: Any) -> None:
    """Add a positional argument that is a list, which may be empty and may stand
    behind options: ``retry myspider --reason x ID``.

    argparse takes an empty list where the options begin and then knows no more
    positional arguments: https://github.com/python/cpython/issues/58573
    """
    parser.add_argument(name, nargs="*", **kwargs)
    parse = parser.parse_known_args

    def parse_known_args(*args: Any, **kwargs: Any) -> tuple[argparse.Namespace, Any]:
        namespace, rest = parse(*args, **kwargs)
        late = [argument for argument in rest if not argument.startswith("-")]
        setattr(namespace, name, [*getattr(namespace, name), *late])
        return namespace, [argument for argument in rest if argument.startswith("-")]

    parser.parse_known_args = parse_known_args  # type: ignore[assignment,method-assign]


def json_lines(parser: argparse.ArgumentParser, what: str) -> None:
    """Let ``--json`` of the common options mean one object a line."""
    [action] = [a for a in parser._actions if "--json" in a.option_strings]  # noqa: SLF001 - argparse has no other way to change a help text
    action.help = f"print one JSON object a line for each {what}, for scripts"


def whole_number(text: str) -> int:
    """*text* as a number from 0."""
    value = int(text) if text.isascii() and text.isdigit() else -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return value
