"""Markdown as plain text: what the topics of ``scrapy frontier help`` are written in.

It knows headings, paragraphs, lists, fenced code, tables, bold text and comments, and
no links.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

#: Columns that the last column of a table needs at least; with less each row is a
#: paragraph.
_LAST_COLUMN = 32
_INDENT = "    "
_LIST_ITEM = re.compile(r"(?:-|\d+\.) ")
_CODE = re.compile("`[^`]+`")
#: A space at which no line is broken.
_FIXED_SPACE = "\xa0"
_CELL_END = re.compile(r"(?<!\\)\|")


def render(text: str, width: int) -> Iterator[str]:
    """The lines of Markdown *text*, at most *width* columns wide; code is not wrapped."""
    for block in _blocks(text.splitlines()):
        first = block[0]
        if first.startswith("<!--"):
            continue
        if first.startswith("#"):
            title = _plain(first.lstrip("# "))
            yield from (title, ("=" if first.startswith("# ") else "-") * len(title))
        elif first.startswith("```"):
            yield from (f"{_INDENT}{line}".rstrip() for line in block[1:-1])
        elif first.startswith("|"):
            yield from _table([_cells(line) for line in block], width)
        else:
            yield from _prose(block, width)
        yield ""


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Groups of lines that belong together; blank lines end them, but not in code."""
    block: list[str] = []
    in_code = False
    for line in lines:
        if line.startswith("```"):
            in_code = not in_code
        if line or in_code:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _plain(text: str) -> str:
    return text.replace("**", "").replace(r"\|", "|")


def _prose(block: list[str], width: int) -> Iterator[str]:
    """A paragraph, or a list whose items begin with ``-`` or a number."""
    number = 0
    parts = []
    for line in block:
        number += bool(_LIST_ITEM.match(line))
        parts.append((number, line))
    for _, lines in groupby(parts, lambda part: part[0]):
        text = _plain(" ".join(line.strip() for _, line in lines))
        item = _LIST_ITEM.match(text)
        yield from _wrap(text, width, hang=" " * len(item[0]) if item else "")


def _wrap(text: str, width: int, *, indent: str = "", hang: str = "") -> list[str]:
    """*text* in lines of *width*; what is in backquotes stays in one line."""
    whole = _CODE.sub(lambda code: code[0].replace(" ", _FIXED_SPACE), text)
    lines = textwrap.wrap(
        whole,
        width,
        initial_indent=indent,
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_FIXED_SPACE, " ") for line in lines]


def _cells(line: str) -> list[str]:
    cells = _CELL_END.split(line.strip().strip("|"))
    return [_plain(cell.strip()) for cell in cells]


def _table(rows: list[list[str]], width: int) -> Iterator[str]:
    """Aligned columns, the last one wrapped; or a paragraph for each row."""
    header, _, *body = rows
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    left = sum(widths[:-1]) + 2 * len(widths[:-1])
    if width - left < min(_LAST_COLUMN, widths[-1]):
        for row in body:
            yield from _row_as_paragraph(header, row, width)
        return
    for row in (header, ["-" * len(name) for name in header], *body):
        heads = zip(row[:-1], widths, strict=False)
        head = "".join(cell.ljust(n + 2) for cell, n in heads)
        yield from _wrap(row[-1] or " ", width, indent=head, hang=" " * left) or [
            head.rstrip()
        ]


def _row_as_paragraph(header: list[str], row: list[str], width: int) -> Iterator[str]:
    yield from _wrap(row[0], width, hang=_INDENT)
    for name, cell in list(zip(header, row, strict=True))[1:]:
        text = f"{name}: {cell}" if name and len(row) > 2 else cell
        yield from _wrap(text, width, indent=_INDENT, hang=_INDENT)
