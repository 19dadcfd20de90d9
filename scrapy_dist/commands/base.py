"""What the subcommands of ``scrapy frontier`` share: their form, and printing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import escape
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from scrapy.settings import Settings

__all__ = [
    "OK",
    "TROUBLE",
    "WRONG_USE",
    "Subcommand",
    "add_common_options",
    "warn",
    "write",
    "write_json",
]

#: Exit codes: all is well; it is not; the command could not do its work.
OK, TROUBLE, WRONG_USE = 0, 1, 2


@dataclass(frozen=True)
class Subcommand:
    """``scrapy frontier NAME``; *run* gets the parsed options and returns the exit code.

    *summary* is its line in the list of subcommands, *description* and *example* (a
    command line) are what ``--help`` shows, and *topic* names what ``scrapy frontier
    help`` has on it. *run* may raise FrontierError.
    """

    name: str
    summary: str
    description: str
    example: str
    topic: str | None
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Settings, argparse.Namespace], Awaitable[int]]


def add_common_options(
    parser: argparse.ArgumentParser, *, spider_optional: bool = False
) -> None:
    """The options that name the crawl and the form of the output."""
    parser.add_argument(
        "spider",
        metavar="SPIDER",
        nargs="?" if spider_optional else None,
        help="name of the spider",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="where Redis is, e.g. redis://host:6379/0; wins over the project's"
        " settings. One with a password is better given as the environment variable"
        " REDIS_URL, which counts where neither this nor a setting says it",
    )
    parser.add_argument(
        "--job",
        metavar="NAME",
        help="the crawl of that name (the setting FRONTIER_JOB)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, for scripts"
    )


def write(*lines: str) -> bool:
    """Print *lines*, escaped; false for a reader that has seen enough (``| head``)."""
    try:
        sys.stdout.write("".join(f"{escape(line)}\n" for line in lines))
        sys.stdout.flush()
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        lines = tuple(
            line.encode(encoding, "replace").decode(encoding) for line in lines
        )
        return write(*lines)
    except BrokenPipeError:
        _give_up_output()
        return False
    except (OSError, AttributeError) as e:
        # A full disk; or there is no standard output at all.
        if sys.stdout is not None:
            _give_up_output()
        raise ConfigurationError(f"The output cannot be written: {e}") from None
    return True


def _give_up_output() -> None:
    """Python would flush once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(command: str, message: str) -> None:
    """Print *message* of ``scrapy frontier`` *command*, escaped, beside the output."""
    sys.stderr.write(f"scrapy frontier {command}: {escape(message)}\n")


def write_json(value: dict[str, Any] | list[dict[str, Any]]) -> bool:
    """Print *value* as one line of ASCII; false as in `write`."""
    return write(json.dumps(value))
