"""The options of subcommands: each is told what to add to a parser."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

Option = Callable[[argparse.ArgumentParser], object]


def option(*names: str, **kwargs: Any) -> Option:
    """As ``add_argument``."""
    return lambda parser: parser.add_argument(*names, **kwargs)


def flag(name: str, help: str) -> Option:  # noqa: A002  as argparse has it
    """One that is there or not."""
    return option(name, action="store_true", help=help)


REDIS = option(
    "--redis",
    metavar="URL",
    help="where Redis is, e.g. redis://host:6379/0; wins over the project's"
    " settings. One with a password is better given as the environment variable"
    " REDIS_URL, which counts where neither this nor a setting says it",
)


def common(
    *, spider_optional: bool = False, a_line_for: str = ""
) -> tuple[Option, ...]:
    """Those that name the crawl and the form of the output.

    *a_line_for*: what ``--json`` prints an object for; else it is one for all.
    """
    spider = {"nargs": "?"} if spider_optional else {}
    lines = f" a line for each {a_line_for}" if a_line_for else ""
    return (
        option("spider", metavar="SPIDER", help="name of the spider", **spider),
        REDIS,
        option(
            "--job",
            metavar="NAME",
            help="the crawl of that name (the setting FRONTIER_JOB)",
        ),
        flag("--json", f"print one JSON object{lines}, for scripts"),
    )


#: Those of commands that serve several crawls.
SEVERAL = (
    option("spiders", metavar="SPIDER", nargs="*", help="only these"),
    REDIS,
    option(
        "--job",
        metavar="NAME",
        help="only crawls of that name (the setting FRONTIER_JOB)",
    ),
)


def late_list(name: str, **kwargs: Any) -> Option:
    """A positional argument that is a list, which may be empty and may stand behind
    options: ``retry myspider --reason x ID``.

    argparse takes an empty list where the options begin and then knows no more
    positional arguments: https://github.com/python/cpython/issues/58573
    """

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(name, nargs="*", **kwargs)
        parse = parser.parse_known_args

        def parse_known_args(
            *args: Any, **kwargs: Any
        ) -> tuple[argparse.Namespace, Any]:
            namespace, rest = parse(*args, **kwargs)
            late = [argument for argument in rest if not argument.startswith("-")]
            setattr(namespace, name, [*getattr(namespace, name), *late])
            return namespace, [each for each in rest if each.startswith("-")]

        parser.parse_known_args = parse_known_args  # type: ignore[assignment,method-assign]

    return add


def number(
    kind: Callable[[str], float], least: float, most: float, problem: str
) -> Callable[[str], Any]:
    """The type of an option: a number of *kind* from *least* to *most*.

    *kind* raises ValueError for what is none. *problem* is said of another text.
    """

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} {problem}")
        return value

    return convert


def port(text: str) -> int:
    """*text* as a port; 0 is any that is free."""
    number_ = int(text)
    if not 0 <= number_ < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port, which is 0 to 65535")
    return number_


def whole(text: str) -> int:
    """*text*, of nothing but digits. Raises ValueError."""
    return int(text if text.isascii() and text.isdigit() else "")


whole_number = number(whole, 0, math.inf, "is not a whole number from 0")
