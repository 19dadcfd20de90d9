"""``scrapy frontier help``: the longer texts, a Markdown file each beside this one."""

from __future__ import annotations

import shutil
from importlib.resources import files
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import nearest, quote
from scrapy_dist.commands import base
from scrapy_dist.commands.options import option
from scrapy_dist.commands.terminal.markdown import render
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

    from scrapy.settings import Settings

#: Columns beyond which lines of prose are hard to read.
_WIDEST = 100

_DESCRIPTION = """\
Show the topics that are explained at length, or one of them. A command's name shows the
topic that it belongs to. Needs neither a project nor Redis.
"""


def topics() -> dict[str, Traversable]:
    """The file of each topic, in alphabetical order."""
    found = {
        file.name.removesuffix(".md"): file
        for file in files(__name__).iterdir()
        if file.name.endswith(".md")
    }
    return dict(sorted(found.items()))


def subcommand(others: Sequence[base.Subcommand]) -> base.Subcommand:
    """``scrapy frontier help``, which knows the topics of the *others* by their names."""
    topic_of = {other.name: other.topic for other in others}

    async def run(_: Settings, opts: base.Namespace) -> int:
        known = topics()
        if opts.topic is None:
            base.write(*_listing(known))
            return base.OK
        topic = opts.topic if opts.topic in known else topic_of.get(opts.topic)
        if topic is None:
            raise ConfigurationError(
                f"There is no topic {quote(opts.topic)}."
                f"{nearest(opts.topic, sorted({*known, *topic_of}))}"
                " scrapy frontier help lists them."
            )
        columns = min(shutil.get_terminal_size().columns, _WIDEST)
        base.write(*render(known[topic].read_text("utf-8"), columns))
        return base.OK

    return base.Subcommand(
        name="help",
        summary="the longer texts, by topic",
        description=_DESCRIPTION,
        example="scrapy frontier help dead-letters",
        topic=None,
        options=(option("topic", "TOPIC", "one of the topics", nargs="?"),),
        run=run,
    )


def _listing(known: dict[str, Traversable]) -> list[str]:
    width = max(map(len, known))
    titles = {
        name: file.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        for name, file in known.items()
    }
    return [
        "scrapy frontier help TOPIC shows one of these:",
        "",
        *(f"  {name.ljust(width)}  {title}" for name, title in titles.items()),
    ]
