"""``scrapy frontier clear``: delete a frontier, or parts of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import escape
from scrapy_dist.commands import base, project
from scrapy_dist.commands.terminal import text
from scrapy_dist.commands.terminal.text import clean
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from scrapy.settings import Settings

_HELP = {
    "requests": "pending, leased and suspect requests",
    "dupefilter": "fingerprints: every page may be crawled again",
    "failed": "dead letters",
    "items": "items",
    "stats": "cluster-wide stats",
    "seeds": "seeds that wait",
    "history": "records of finished crawls",
}

#: What counts are called that are no adjectives, one and many.
_COUNTED = {
    "history": ("record", "records"),
    "items": ("item", "items"),
    "seeds": ("seed", "seeds"),
    "stats": ("stat", "stats"),
    "workers": ("worker", "workers"),
}

_DESCRIPTION = """\
Delete the frontier of SPIDER: requests, fingerprints, stats, and what it knows of its
workers, so that the next worker begins a new crawl. Seeds, items, dead letters and the
records of finished crawls stay. With options only what they name is deleted.

It shows what there is and asks first; in a script say --yes. It refuses while workers live:
stop them (scrapy frontier workers SPIDER --stop all), or say --force; then they go on with
what they hold, and with its links. All goes in one moment, and without holding Redis up.

Exit code: 0 deleted, or there was nothing; 1 the answer was no; 2 refused, wrong use, Redis
away."""


def add_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    for part, meaning in _HELP.items():
        parser.add_argument(
            f"--{part}",
            dest="parts",
            action="append_const",
            const=part,
            help=f"delete {meaning}",
        )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force", action="store_true", help="also while workers are alive"
    )


async def run(settings: Settings, opts: argparse.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    parts = opts.parts or ()
    async with project.opened(crawl, changes=True):
        status = await crawl.known_status()
        counts = await crawl.counts(status, parts)
        where = crawl.where
        if status.alive and not opts.force:
            raise crawl.in_use(len(status.alive), "--force")
        sure = opts.yes or not any(counts.values())
        if not (sure or _confirm(crawl.name, where, counts)):
            base.warn("clear", "Nothing was deleted.")
            return base.TROUBLE
        cleared = await crawl.clear(*parts, force=opts.force)
    if opts.json:
        base.write_json(
            {
                "spider": crawl.spider,
                "job": crawl.job,
                "redis": where,
                "deleted": counts,
                "workers_alive": cleared.alive,
            }
        )
    elif any(counts.values()):
        base.write(f"Deleted of {clean(crawl.name)}: {_list(counts)}.")
    else:
        base.write(f"There was nothing of {clean(crawl.name)} to delete.")
    return base.OK


def _list(counts: dict[str, int]) -> str:
    return ", ".join(
        text.count(count, *_COUNTED.get(name, (name, name)))
        for name, count in counts.items()
    )


def _confirm(name: str, where: str, counts: dict[str, int]) -> bool:
    question = f"Delete of {clean(name)} at {where}: {_list(counts)}?"
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(
            f"{question} There is no terminal to ask: say --yes to delete."
        )
    sys.stderr.write(f"{escape(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


SUBCOMMAND = base.Subcommand(
    name="clear",
    summary="delete a frontier, or parts of it",
    description=_DESCRIPTION,
    example="scrapy frontier clear myspider --dupefilter --requests --yes",
    topic="inspecting",
    add_options=add_options,
    run=run,
)
