"""What there is to complete, in a form that no shell depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scrapy_dist.commands.base import Argument, Subcommand

#: What Scrapy has for all of its commands, also behind a subcommand.
_GLOBAL = (
    Argument(("-h", "--help"), "", "explain the command", takes_value=False),
    Argument(("-s", "--set"), "NAME=VALUE", "set or override a setting"),
    Argument(
        ("-L", "--loglevel"),
        "LEVEL",
        "log level",
        ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"),
    ),
)
#: What is completed where an argument is called like that.
_KINDS = {
    "SPIDER": "spider",
    "HOST:PID": "worker",
    **dict.fromkeys(("FILE", "F", "PATH"), "file"),
}
#: Subcommands whose IDs are those of tasks.
_OF_TASKS = ("task", "cancel")


def kind_of(argument: Argument) -> str:
    """What it is: ``words`` and its values, or ``spider``, ``job``, ``worker``, ``file``.

    '' for anything else.
    """
    if "--job" in argument.names:
        return "job"
    if argument.values:
        return " ".join(("words", *argument.values))
    return _KINDS.get(argument.metavar, "")


@dataclass(frozen=True)
class Command:
    name: str
    summary: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> list[Argument]:
        return [each for each in (*self.arguments, *_GLOBAL) if each.is_option]

    def places(self) -> Iterator[tuple[str, str]]:
        """The place of each positional argument, '*' of all that follow, and its kind."""
        positional = (each for each in self.arguments if not each.is_option)
        for place, argument in enumerate(positional):
            kind = kind_of(argument)
            if argument.metavar == "ID" and self.name in _OF_TASKS:
                kind = "task"
            yield str(place), kind
            if argument.many:
                yield "*", kind

    def values(self) -> Iterator[tuple[str, str]]:
        """The names of each option that another word follows, and the word's kind."""
        for option in self.options:
            if option.takes_value:
                for name in option.names:
                    yield name, kind_of(option)


@dataclass(frozen=True)
class Words:
    commands: tuple[Command, ...]

    @classmethod
    def of(cls, commands: Sequence[Subcommand], topics: Iterable[str]) -> Words:
        """*commands* with their arguments; one that is a TOPIC is among *topics*."""
        topic = Argument(("topic",), "TOPIC", "", tuple(topics))
        return cls(
            tuple(
                Command(
                    each.name,
                    each.summary,
                    tuple(
                        topic if argument.metavar == "TOPIC" else argument
                        for argument in each.arguments
                    ),
                )
                for each in commands
            )
        )
