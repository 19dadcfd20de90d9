"""The scripts for bash, zsh and fish, each around the same table of what there is.

Whatever is not known when the script is written is asked for by ``scrapy frontier completion
--names``, once a minute, and is data for the shell: nothing of it is ever evaluated, and
what a shell would understand in it is quoted when it comes to stand on the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from scrapy_dist.commands.options import Option, option

if TYPE_CHECKING:
    from scrapy_dist.commands.base import Subcommand

SHELLS = ("bash", "zsh", "fish")
#: Scrapy's own commands.
_SCRAPY = (
    "bench check crawl edit fetch frontier genspider list parse runspider settings shell"
    " startproject version view"
)
_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
#: What Scrapy has for all of its commands, also behind a subcommand.
_GLOBAL = (
    Option(("-h", "--help"), {"action": "help", "help": "explain the command"}),
    option("--set", "NAME=VALUE", "set or override a setting", short="-s"),
    option("--loglevel", "LEVEL", "log level", short="-L", choices=_LEVELS),
)
#: What is completed where an argument is called like that.
_KINDS = {
    "SPIDER": "spider",
    "HOST:PID": "worker",
    **dict.fromkeys(("FILE", "F", "PATH"), "file"),
}
#: Subcommands whose IDs are those of tasks.
_OF_TASKS = ("task", "cancel")


def script(shell: str, commands: Sequence[Subcommand], topics: Collection[str]) -> str:
    """What *shell* is to read."""
    rows = [row for command in commands for row in _rows(command, topics)]
    table = "\n".join("|".join(row) for row in rows)
    assert "\\" not in table, "fish would take it for more than it is"
    text = _file(f"script.{shell}").replace("@common@\n", _file("common.bash"))
    quoted = table.replace("'", "'\\''")
    return text.replace("@scrapy@", _SCRAPY).replace("@table@", f"'{quoted}'")


def _file(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _rows(command: Subcommand, topics: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Of *command* and its arguments: its name, a word, a shorter one, a kind, a text.

    The word is an option, or the place of a positional argument: 0, 1, … and * for all
    that follow. The kind, of an option's value or of what comes at that place, is one of
    ``spider``, ``job``, ``worker``, ``task``, ``file``, ``words`` with all of them, or ''
    for anything else; ``flag`` of an option without a value.
    """
    yield command.name, "", "", "", _short(command.summary)
    place = 0
    for each in (*command.options, *_GLOBAL):
        kind = _kind_of(each, command.name, topics)
        if each.is_option:
            short = each.names[0] if len(each.names) > 1 else ""
            yield command.name, each.names[-1], short, kind, _short(each.more["help"])
            continue
        yield command.name, str(place), "", kind, ""
        place += 1
        if each.is_list:
            yield command.name, "*", "", kind, ""


def _kind_of(argument: Option, command: str, topics: Collection[str]) -> str:
    metavar, words = argument.more.get("metavar"), argument.more.get("choices")
    if not argument.takes_value:
        return "flag"
    if "--job" in argument.names:
        return "job"
    if metavar == "ID" and command in _OF_TASKS:
        return "task"
    if metavar == "TOPIC":
        words = topics
    return " ".join(("words", *words)) if words else _KINDS.get(metavar or "", "")


def _short(text: str) -> str:
    """The first part of a help text, which stands in one line."""
    return text.partition(";")[0].partition(" (")[0].replace("%%", "%")
