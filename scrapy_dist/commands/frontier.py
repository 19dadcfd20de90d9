"""``scrapy frontier``, as Scrapy finds it."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, ClassVar

from scrapy.commands import ScrapyCommand, ScrapyHelpFormatter
from scrapy.exceptions import UsageError
from scrapy.utils.log import configure_logging

from scrapy_dist.base.escaping import did_you_mean, quote
from scrapy_dist.base.words import clean
from scrapy_dist.commands import (
    base,
    bridge,
    check,
    clear,
    completion,
    explain,
    export,
    failed,
    history,
    hosts,
    import_,
    items,
    metrics,
    pause,
    peek,
    seed,
    status,
    tasks,
    top,
    web,
    workers,
)
from scrapy_dist.commands import help as help_
from scrapy_dist.exceptions import FrontierError

_COMMANDS: tuple[base.Subcommand, ...] = (
    status.SUBCOMMAND,
    top.SUBCOMMAND,
    history.SUBCOMMAND,
    workers.SUBCOMMAND,
    hosts.SUBCOMMAND,
    pause.PAUSE,
    pause.RESUME,
    seed.SUBCOMMAND,
    tasks.TASKS,
    tasks.TASK,
    tasks.CANCEL,
    items.SUBCOMMAND,
    failed.FAILED,
    failed.RETRY,
    failed.FORGET,
    peek.SUBCOMMAND,
    explain.EXPLAIN,
    explain.RECRAWL,
    export.SUBCOMMAND,
    import_.SUBCOMMAND,
    clear.SUBCOMMAND,
    check.SUBCOMMAND,
    metrics.SUBCOMMAND,
    web.SUBCOMMAND,
    bridge.SUBCOMMAND,
)
SUBCOMMANDS: tuple[base.Subcommand, ...] = (
    *_COMMANDS,
    completion.subcommand(
        lambda: SUBCOMMANDS, [*help_.topics(), *(command.name for command in _COMMANDS)]
    ),
    help_.subcommand(_COMMANDS),
)

#: Exit code after Ctrl-C, as shells have it.
_INTERRUPTED = 130


class _Subcommands(argparse._SubParsersAction):  # type: ignore[type-arg]  # noqa: SLF001  it has no other name
    """Says of a name that is none of theirs which one is meant."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The parser would list them all, after its whole usage.
        self.choices = None  # type: ignore[assignment]

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        names = [command.name for command in SUBCOMMANDS]
        name = values[0]
        if name not in names:
            meant = did_you_mean(name, names)
            parser.exit(
                base.WRONG_USE,
                f"scrapy frontier: there is no command {quote(name)}."
                f"{meant or ' scrapy frontier --help lists them.'}\n",
            )
        super().__call__(parser, namespace, values, option_string)


class _Help(ScrapyHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Scrapy's style, with the line breaks of the examples."""


def _unknown(command: base.Subcommand, args: list[str]) -> str:
    names = [
        *(name for each in command.options if each.is_option for name in each.names),
        *("--set", "--loglevel", "--help"),
    ]
    given = [arg.partition("=")[0] for arg in args if arg.startswith("--")]
    meant = next(filter(None, (did_you_mean(name, names) for name in given)), "")
    words = " ".join(map(clean, args))
    return f"unrecognized arguments: {words}" + (f".{meant}" if meant else "")


class Command(ScrapyCommand):
    """Dispatches to the subcommands; starts no reactor and no crawl."""

    requires_project = False
    requires_crawler_process = False
    default_settings: ClassVar[dict[str, Any]] = {"LOG_ENABLED": False}

    def syntax(self) -> str:
        return "COMMAND [options]"

    def short_desc(self) -> str:
        return "Look after the frontier of a crawl in Redis"

    def long_desc(self) -> str:
        return (
            "Look after the frontier, in Redis, that the workers of a crawl share. Inside"
            " a project its settings say where Redis is; elsewhere --redis, or"
            " REDIS_URL in the environment, does."
            " For example: scrapy frontier status myspider. The longer texts:"
            " scrapy frontier help"
        )

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        commands = parser.add_subparsers(
            title="Commands",
            dest="command",
            metavar="COMMAND",
            prog="scrapy frontier",
            action=_Subcommands,
        )
        for command in SUBCOMMANDS:
            epilog = f"Example: {command.example}"
            if command.topic:
                epilog += f"\nMore:    scrapy frontier help {command.topic}"
            subparser = commands.add_parser(
                command.name,
                help=command.summary,
                description=command.description,
                epilog=epilog,
                formatter_class=_Help,
            )
            command.add_options(subparser)
            self._add_global_options(subparser)
            subparser.set_defaults(subcommand=command)

    def _add_global_options(self, parser: argparse.ArgumentParser) -> None:
        """The most usual of Scrapy's global options, behind the subcommand too."""
        group = parser.add_argument_group(title="Global Options")
        group.add_argument(
            "-s",
            "--set",
            dest="more_settings",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="set/override setting (may be repeated)",
        )
        group.add_argument(
            "-L", "--loglevel", dest="more_loglevel", metavar="LEVEL", help="log level"
        )

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        opts.set += getattr(opts, "more_settings", [])
        opts.loglevel = getattr(opts, "more_loglevel", None) or opts.loglevel
        super().process_options(args, opts)
        if opts.command is None:
            raise UsageError
        if args:
            raise UsageError(_unknown(opts.subcommand, args), print_help=False)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        assert self.settings is not None
        configure_logging(self.settings)
        subcommand: base.Subcommand = opts.subcommand
        try:
            self.exitcode = asyncio.run(subcommand.run(self.settings, opts))
        except FrontierError as e:
            base.warn(subcommand.name, str(e))
            self.exitcode = base.WRONG_USE
        except KeyboardInterrupt:
            self.exitcode = _INTERRUPTED
