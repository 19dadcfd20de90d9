"""The scripts for bash, zsh and fish.

Whatever is not known when the script is written is asked for by ``scrapy frontier completion
--names``, once a minute, and is data for the shell: nothing of it is ever evaluated, and
what a shell would understand in it is quoted when it comes to stand on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files

from scrapy_dist.commands.completion.words import Command, Words, kind_of

#: Scrapy's own commands.
_SCRAPY = (
    *("bench", "check", "crawl", "edit", "fetch", "frontier", "genspider", "list"),
    *("parse", "runspider", "settings", "shell", "startproject", "version", "view"),
)


def _template(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _filled(name: str, **parts: str) -> str:
    """The template *name*; each ``@part@`` is a line, or a word, of its own."""
    text = _template(name)
    for part, value in parts.items():
        text = text.replace(f"@{part}@", value)
    return text


def _quoted(text: str) -> str:
    """For bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _cases(words: Words) -> str:
    """What bash and zsh know of words by their command, in the language of both."""
    return _filled(
        "script.cases",
        values=_kinds(words, lambda command: command.values()),
        places=_kinds(words, lambda command: command.places()),
    )


def _kinds(words: Words, of: Callable[[Command], Iterator[tuple[str, str]]]) -> str:
    """The lines of a ``case``: ``COMMAND:WORD) kind=…``."""
    lines = []
    for command in words.commands:
        for word, kind in of(command):
            pattern = word if word == "*" else _quoted(word)
            lines.append(f"    {command.name}:{pattern}) kind={_quoted(kind)} ;;")
    return "\n".join(lines)


def bash(words: Words) -> str:
    options = [
        f"    {command.name}) kind={_quoted(' '.join(['words', *_names(command)]))} ;;"
        for command in words.commands
    ]
    return _filled(
        "script.bash",
        commands=" ".join(command.name for command in words.commands),
        scrapy=" ".join(_SCRAPY),
        cases=_cases(words),
        options="\n".join(options),
    )


def _names(command: Command) -> list[str]:
    """Of its options; the long one, if it has two."""
    return [option.names[-1] for option in command.options]


def zsh(words: Words) -> str:
    def described(name: str, text: str) -> str:
        return _quoted(f"{name}:{_short(text)}")

    options = [
        f"    {command.name}) options=("
        + " ".join(described(o.names[-1], o.help) for o in command.options)
        + ") ;;"
        for command in words.commands
    ]
    return _filled(
        "script.zsh",
        commands=" ".join(described(c.name, c.summary) for c in words.commands),
        scrapy=" ".join(_SCRAPY),
        cases=_cases(words),
        options="\n".join(options),
    )


def _short(text: str) -> str:
    """The first part of a help text, which stands in one line."""
    return text.partition(";")[0].partition(" (")[0].replace("%%", "%")


def fish(words: Words) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def value(kind: str) -> str:
        if kind == "file":
            return " -r -F"
        if kind.startswith("words "):
            return f" -x -a {quoted(kind.removeprefix('words '))}"
        return f" -x -a '(__scrapy_frontier_{kind}s)'" if kind else " -x"

    lines = []
    for command in words.commands:
        lines.append(
            "complete -c scrapy -n __scrapy_frontier_begins -f"
            f" -a {command.name} -d {quoted(_short(command.summary))}"
        )
        for option in command.options:
            names = "".join(
                f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
                for name in option.names
            )
            lines.append(
                f"complete -c scrapy -n '__scrapy_frontier_is {command.name}'{names}"
                f" -d {quoted(_short(option.help))}"
                f"{value(kind_of(option)) if option.takes_value else ''}"
            )
        for place, kind in command.places():
            at = "+" if place == "*" else place
            if kind:
                lines.append(
                    "complete -c scrapy -n"
                    f" '__scrapy_frontier_at {command.name} {at}'"
                    f"{value(kind).replace(' -r', '').replace(' -x', ' -f')}"
                )
    valued = {name for command in words.commands for name, _ in command.values()}
    return _filled(
        "script.fish",
        completions="\n".join(lines),
        scrapy=" ".join(_SCRAPY),
        valued=" ".join(sorted(valued)),
    )


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
