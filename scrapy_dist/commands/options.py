"""The options of subcommands: each is told what to add to a parser."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Option:
    """An argument of a subcommand; the *names* of an option begin with a dash.

    *more*: what ``add_argument`` gets besides.
    """

    names: tuple[str, ...]
    more: dict[str, Any]

    @property
    def is_option(self) -> bool:
        return self.names[0].startswith("-")

    @property
    def takes_value(self) -> bool:
        """Whether another word follows it."""
        return self.more.get("action", "store") in ("store", "append")

    @property
    def is_list(self) -> bool:
        """Whether it may be given again and again, without its name."""
        return "nargs" in self.more and self.more["nargs"] != "?"

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(*self.names, **self.more)


def option(
    name: str, metavar: str | None, about: str, *, short: str = "", **more: Any
) -> Option:
    """One with a value, or a positional argument; *more* as ``add_argument`` has it."""
    names = (short, name) if short else (name,)
    return Option(names, {"metavar": metavar, "help": about, **more})


def repeated(name: str, metavar: str, about: str, **more: Any) -> Option:
    """One that may be given several times: a list."""
    return option(name, metavar, about, action="append", default=[], **more)


def flag(name: str, about: str) -> Option:
    """One that is there or not."""
    return Option((name,), {"action": "store_true", "help": about})


REDIS = option(
    "--redis",
    "URL",
    "where Redis is, e.g. redis://host:6379/0; wins over the project's settings. One with"
    " a password is better given as the environment variable REDIS_URL, which counts where"
    " neither this nor a setting says it",
)

#: The crawl, of those that have one.
CRAWL = (
    option("spider", "SPIDER", "name of the spider"),
    REDIS,
    option("--job", "NAME", "the crawl of that name (the setting FRONTIER_JOB)"),
)

#: Those of commands that serve several crawls.
SEVERAL = (
    option("spiders", "SPIDER", "only these", nargs="*"),
    REDIS,
    option("--job", "NAME", "only crawls of that name (the setting FRONTIER_JOB)"),
)


def common(
    *, spider_optional: bool = False, a_line_for: str = ""
) -> tuple[Option, ...]:
    """Those that name the crawl and the form of the output.

    *a_line_for*: what ``--json`` prints an object for; else it is one for all.
    """
    crawl = CRAWL
    if spider_optional:
        optional = option("spider", "SPIDER", "name of the spider", nargs="?")
        crawl = (optional, *CRAWL[1:])
    lines = f" a line for each {a_line_for}" if a_line_for else ""
    return (*crawl, flag("--json", f"print one JSON object{lines}, for scripts"))


class _LateList(Option):
    def add(self, parser: argparse.ArgumentParser) -> None:
        super().add(parser)
        [name] = self.names
        parse = parser.parse_known_args

        def parse_known_args(
            *args: Any, **kwargs: Any
        ) -> tuple[argparse.Namespace, Any]:
            namespace, rest = parse(*args, **kwargs)
            late = [argument for argument in rest if not argument.startswith("-")]
            setattr(namespace, name, [*getattr(namespace, name), *late])
            return namespace, [each for each in rest if each.startswith("-")]

        parser.parse_known_args = parse_known_args  # type: ignore[assignment,method-assign]


def late_list(name: str, metavar: str, about: str) -> Option:
    """A positional argument that is a list, which may be empty and may stand behind
    options: ``retry myspider --reason x ID``.

    argparse takes an empty list where the options begin and then knows no more
    positional arguments: https://github.com/python/cpython/issues/58573
    """
    return _LateList((name,), {"nargs": "*", "metavar": metavar, "help": about})


def number(
    kind: Callable[[str], float], least: float, most: float, problem: str
) -> Callable[[str], Any]:
    """The type of an option: a number of *kind* from *least* to *most*.

    *kind* raises ValueError for what is none. *problem* is said of another text.
    """

    def convert(text: str) -> float:
        try:
            found = kind(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} {problem}")
        return found

    return convert


def _whole(text: str) -> int:
    """*text*, of nothing but digits. Raises ValueError."""
    return int(text if text.isascii() and text.isdigit() else "")


def whole(least: int, most: int) -> Callable[[str], Any]:
    """The type of an option: a whole number from *least* to *most*."""
    return number(_whole, least, most, f"is not a number from {least} to {most}")


whole_number = number(_whole, 0, math.inf, "is not a whole number from 0")
positive_number = number(_whole, 1, math.inf, "is not a number above 0")


def port(text: str) -> int:
    """*text* as a port; 0 is any that is free."""
    found = int(text)
    if not 0 <= found < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port, which is 0 to 65535")
    return found


def listening(default: int, warning: str) -> tuple[Option, Option]:
    """Where a server listens: at the port *default* of this machine, if nothing else is said.

    *warning*: what is to be known of other addresses.
    """
    where = "address to listen at (%(default)s without it, for this machine only)"
    at = "port to listen at, 0 for any that is free; %(default)s without it"
    return (
        option("--host", None, f"{where}; {warning}; 0.0.0.0 is all", default=_HOST),
        option("--port", None, at, type=port, default=default),
    )
