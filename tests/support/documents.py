"""What README and the topics of ``scrapy frontier help`` say, taken apart for tests."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scrapy_dist.commands.help import topics

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
#: What ends a command in a shell.
_ENDS = ("|", "||", "&&", "&", ";")


class Block(NamedTuple):
    """A fenced block, and how its language is marked."""

    document: str
    language: str
    text: str


def documents() -> dict[str, str]:
    """The text of README, and of each topic under its name."""
    found = {"README": README.read_text("utf-8")}
    return found | {name: file.read_text("utf-8") for name, file in topics().items()}


def blocks(language: str | None = None) -> list[Block]:
    """All fenced blocks, or those of *language*."""
    return [
        Block(name, mark, re.sub(f"(?m)^{indent}", "", text))
        for name, document in documents().items()
        for indent, mark, text in _FENCE.findall(document)
        if language in (None, mark)
    ]


def prose(document: str) -> str:
    """*document* without its fenced blocks."""
    return _FENCE.sub("", document)


def spans(document: str) -> list[str]:
    """What stands in backquotes outside the blocks."""
    unwrapped = re.sub(r"(?<=\S)\n(?=\S)", " ", prose(document))
    return [span.replace(r"\|", "|") for span in _SPAN.findall(unwrapped)]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Document and words of each command in the blocks that a shell or a user reads."""
    for block in blocks():
        if block.language not in ("sh", ""):
            continue
        lines = block.text.replace("\\\n", " ")
        if block.language == "":  # What a terminal shows; ``$ `` is its prompt.
            lines = "\n".join(re.findall(r"^\$ (.*)$", lines, re.MULTILINE))
        for line in _statements(lines):
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
            lexer.whitespace_split, lexer.commenters = True, "#"
            words: list[str] = []
            for word in (*lexer, ";"):
                if word not in _ENDS:
                    words.append(word)
                elif words:
                    # Where the output goes is the shell's business.
                    end = words.index(">") if ">" in words else None
                    yield block.document, words[:end]
                    words = []


def _statements(text: str) -> Iterator[str]:
    """The lines of *text*; those of an open quotation together."""
    pending = ""
    for line in text.splitlines():
        pending += line + "\n"
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            continue
        yield pending
        pending = ""
    assert not pending, f"a quotation is open: {pending}"


def imported(source: str) -> Iterator[str]:
    """Dotted paths of this package that Python *source* imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] == "scrapy_dist":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "scrapy_dist":
                    yield alias.name
