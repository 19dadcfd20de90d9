"""The tables of settings, made from defaults.py: README's, and those of topics.

``python -m tests.support.settings_table`` writes them.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from scrapy_dist import defaults

_ROOT = Path(__file__).parents[2]
README = _ROOT / "README.md"
_TOPICS = _ROOT / "scrapy_dist/commands/help"
#: Groups of settings that few people need, and where these look.
ELSEWHERE = {
    "Frontier: keys": _TOPICS / "keys.md",
    "Frontier: what seeds may say": _TOPICS / "seeds.md",
}
DOCUMENTS = (README, *ELSEWHERE.values())
_PLACE = re.compile("(?<=<!-- settings -->\n).*(?=<!-- end of settings -->)", re.DOTALL)


def table(document: Path) -> str:
    """A row for each setting of *document*, in the order of defaults.py."""
    rows = ["", "| setting | default | meaning |", "|---|---|---|"]
    is_here = document == README
    lines = inspect.getsource(defaults).splitlines()
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            if name.isupper():
                assert node.value is not None
                heading, meaning = _before(lines, node.lineno - 1)
                if heading:
                    is_here = document == ELSEWHERE.get(heading, README)
                    if is_here and document == README:
                        rows.append(f"| **{heading}** | | |")
                if is_here:
                    value = _value(lines, node.value)
                    rows.append(f"| `{name}` | `{value}` | {meaning} |")
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


def written(document: Path) -> str:
    """The table that *document* has."""
    found = _PLACE.search(document.read_text("utf-8"))
    assert found, f"{document} has no place for the settings"
    return found[0]


if __name__ == "__main__":
    for document in DOCUMENTS:
        made = table(document)
        text = document.read_text("utf-8")
        document.write_text(_PLACE.sub(lambda _, made=made: made, text), "utf-8")
