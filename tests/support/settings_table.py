"""README's table of settings, made from defaults.py.

``python -m tests.support.settings_table`` writes it into README.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from scrapy_dist import defaults

README = Path(__file__).parents[2] / "README.md"
_PLACE = re.compile("(?<=<!-- settings -->\n).*(?=<!-- end of settings -->)", re.DOTALL)


def table() -> str:
    """A row for each setting, in the order of defaults.py."""
    rows = ["", "| setting | default | meaning |", "|---|---|---|"]
    lines = inspect.getsource(defaults).splitlines()
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            if name.isupper():
                assert node.value is not None
                heading, meaning = _before(lines, node.lineno - 1)
                if heading:
                    rows.append(f"| **{heading}** | | |")
                rows.append(f"| `{name}` | `{_value(lines, node.value)}` | {meaning} |")
    return "\n".join((*rows, "", ""))


def _value(lines: list[str], value: ast.expr) -> str:
    """*value* as it is written, in one line."""
    if value.lineno == value.end_lineno:
        return lines[value.lineno - 1][value.col_offset : value.end_col_offset]
    return ast.unparse(value).replace("'", '"')


def _before(lines: list[str], end: int) -> tuple[str, str]:
    """The heading of a group, or '', and the ``#:`` comment that end before line *end*."""
    begin = end
    while lines[begin - 1].startswith("#:"):
        begin -= 1
    text = " ".join(line.removeprefix("#:").strip() for line in lines[begin:end])
    heading = re.fullmatch("# --- (.*?) -+", lines[begin - 2])
    return heading[1] if heading else "", text.replace("``", "`").replace("|", r"\|")


def written() -> str:
    """The table that README has."""
    found = _PLACE.search(README.read_text("utf-8"))
    assert found, "README has no place for the settings"
    return found[0]


if __name__ == "__main__":
    text = README.read_text("utf-8")
    README.write_text(_PLACE.sub(lambda _: table(), text), "utf-8")
