"""What the subcommands of ``scrapy frontier`` share: their form, and printing."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import escape
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.commands.options import Option

Namespace = argparse.Namespace

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
    options: Sequence[Option]
    run: Callable[[Settings, Namespace], Coroutine[Any, Any, int]]

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        for option in self.options:
            option.add(parser)


def tell(opts: Namespace, value: dict[str, Any], lines: Iterable[str] | str) -> bool:
    """Print *value* with --json, else the *lines* for people; false as in `write`."""
    if opts.json:
        return write_json(value)
    return write(*([lines] if isinstance(lines, str) else lines))


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
        give_up_output()
        return False
    except (OSError, AttributeError) as e:
        # A full disk; or there is no standard output at all.
        if sys.stdout is not None:
            give_up_output()
        raise ConfigurationError(f"The output cannot be written: {e}") from None
    return True


def give_up_output() -> None:
    """Python would flush once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(command: str, message: str) -> None:
    """Print *message* of ``scrapy frontier`` *command*, escaped, beside the output."""
    sys.stderr.write(f"scrapy frontier {command}: {escape(message)}\n")


def write_json(value: dict[str, Any] | list[dict[str, Any]]) -> bool:
    """Print *value* as one line of ASCII; false as in `write`."""
    return write(json.dumps(value))


@contextmanager
def on_signals(do: Callable[[], object], *signals: signal.Signals) -> Iterator[None]:
    """Let *signals*, which would end the command, call *do*; those ignored stay so."""
    loop = asyncio.get_running_loop()
    caught = [s for s in signals if signal.getsignal(s) is not signal.SIG_IGN]
    for each in caught:
        loop.add_signal_handler(each, do)
    try:
        yield
    finally:
        for each in caught:
            loop.remove_signal_handler(each)


@contextmanager
def asked_to_end() -> Iterator[asyncio.Event]:
    """Is set by Ctrl-C and SIGTERM, which do nothing else meanwhile."""
    event = asyncio.Event()
    with on_signals(event.set, signal.SIGINT, signal.SIGTERM):
        yield event
